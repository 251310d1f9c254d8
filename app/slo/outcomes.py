"""What an order's change of status, or a dead letter, means to the objectives: pure rules.

An order's outcome is its entering COMPLETED, CANCELLED, REJECTED or PARKED. An order that ends for
a reason of the business (a card declined, an item sold out, a customer's wish) was served well; one
that ends for a technical reason, or waits for a person because a machine could not go on, was not.
An order that is parked and then completed has had two outcomes, a bad one and a good one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from types import MappingProxyType
from typing import NamedTuple

from app.domain.definition import FINAL, State
from app.messages.orders import OrderStatusChanged
from app.slo.panes import Measured, Odd
from app.slo.sketch import of

BUSINESS: Mapping[str, str] = MappingProxyType(
    {
        "": "completed",
        "customer": "the customer's own wish",
        "operator": "an operator's decision",
        "payment_declined": "the card's bank said no",
        "out_of_stock": "the shop has no more",
        "shipping_refused": "the address cannot be served",
        "fraud": "a reviewer's decision, or a score's",
    }
)
"""Reasons of an order's end that are an answer, and no failure of the platform."""
TECHNICAL: Mapping[str, str] = MappingProxyType(
    {"timeout": "a step stayed unanswered, or could not start in time"}
)
"""Reasons that are failures of the platform; so is every reason that stands in neither table."""
OUTCOMES: frozenset[str] = FINAL | {State.PARKED}
COUNTED: frozenset[str] = OUTCOMES | {State.REVIEW}
"""The statuses that say something to an objective; most changes of status say nothing."""

DEAD_LETTER = Measured("dead_letters", good=False)


class Reading(NamedTuple):
    """What an event says: one measure per indicator, and what was odd about it."""

    measured: tuple[Measured, ...]
    odd: tuple[Odd, ...] = ()


NOTHING = Reading(())


def is_available(status: str, reason: str) -> bool:
    """Whether an outcome is one that the platform owes its customer."""
    return status != State.PARKED and reason in BUSINESS


def read(body: OrderStatusChanged, at_s: float, *, threshold_s: float) -> Reading:
    """Return what a change of status that happened at `at_s` says to the objectives.

    Only a completed order that waited for nobody, and whose creation is known, has a latency; one
    that is negative or no number is odd, and no order completes in such a time.
    """
    if body.status == State.REVIEW:
        return Reading((Measured("fraud", good=False),))
    if body.status not in OUTCOMES:
        return NOTHING
    measured = [Measured("availability", good=is_available(body.status, body.reason))]
    if not body.held and body.status != State.PARKED:
        measured.append(Measured("fraud", good=True))
    if body.status != State.COMPLETED or body.held or body.created_at is None:
        return Reading(tuple(measured))
    took_s = at_s - body.created_at.timestamp()
    odd = odd_latency(took_s)
    if odd is not None:
        return Reading(tuple(measured), (odd,))
    measured.append(Measured("completion", took_s <= threshold_s, of((took_s,))))
    return Reading(tuple(measured))


def odd_latency(took_s: float) -> Odd | None:
    """Return what is odd about a latency, None when nothing is."""
    if not isfinite(took_s):
        return "not_a_number"
    return "negative" if took_s < 0 else None


def time_of(ce_time: bytes | None, received_s: float) -> float:
    """Return when an event happened, in Unix seconds: what its envelope says, or else when the
    broker took it. What cannot be read, or names no zone, counts as absent."""
    if ce_time is None:
        return received_s
    try:
        at = datetime.fromisoformat(ce_time.decode("ascii"))
        return received_s if at.tzinfo is None else at.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return received_s
