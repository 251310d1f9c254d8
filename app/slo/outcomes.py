"""What an order's change of status means to an objective: pure rules, one table.

An order's outcome is its entering COMPLETED, CANCELLED, REJECTED or PARKED. An order that ends for
a reason of the business (a card declined, an item sold out, a customer's wish) was served well; one
that ends for a technical reason, or waits for a person because a machine could not go on, was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from app.domain.definition import FINAL, State

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


def is_available(status: str, reason: str) -> bool:
    """Whether an outcome is one that the platform owes its customer."""
    return status != State.PARKED and reason in BUSINESS
