"""The shipping participant: at most one shipment per order, and none after its cancellation.

Ship and cancel are commutative per order: a cancel that comes first leaves a tombstone which the
late ship finds; a cancel that comes second voids the shipment. Which addresses are refused is
data (`Rules`). An order without an address is accepted: it is collected in the shop.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from app import ids
from app.messages.shipping import (
    ShippingCancel,
    ShippingOutcome,
    ShippingRequested,
    ShippingResult,
)

Status = Literal[
    "SHIPPED",
    "REFUSED",
    "EXPIRED",  # tombstone: not started before `not_after`
    "CANCELLED",  # voided, or the tombstone of a cancel that came first
]
Command = ShippingRequested | ShippingCancel


class Rules(NamedTuple):
    """Which addresses are refused: those with one of the words, those in one of the countries.

    The country is the last comma-separated part of an address when that is two letters long.
    """

    words: frozenset[str] = frozenset({"REFUSE"})
    countries_not_served: frozenset[str] = frozenset({"AQ", "KP"})


DEFAULT_RULES = Rules()


class Shipment(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded for an order; `version` counts its changes from 1."""

    order_id: str
    status: Status
    version: int
    shipment_id: str = ""
    address: str | None = None
    reason: str = ""


class Decision(NamedTuple):
    """The shipment to record (the given one when nothing changes) and the result to publish."""

    shipment: Shipment
    result: ShippingResult


def decide(
    shipment: Shipment | None,
    command_id: str,
    body: Command,
    now: datetime,
    rules: Rules = DEFAULT_RULES,
) -> Decision:
    """Decide one command; `shipment` is what is recorded for the order, locked."""
    if isinstance(body, ShippingRequested):
        return _ship(shipment, command_id, body, now, rules)
    return _cancel(shipment, command_id, body)


def refusal(address: str | None, rules: Rules) -> str:
    """Return why an address is refused, empty when it is accepted."""
    if address is None:
        return ""
    upper = address.upper()
    if any(word in upper for word in rules.words):
        return "address_refused"
    country = upper.rpartition(",")[2].strip()
    if country in rules.countries_not_served:
        return f"country_not_served:{country}"
    return ""


def notice(
    command_id: str,
    body: Command,
    outcome: Literal["RETRYING", "PARKED"],
    *,
    reason: str,
    due_at: datetime | None = None,
) -> ShippingResult:
    """Build the result that says that a command is being retried, or was dead-lettered."""
    return ShippingResult(
        order_id=body.order_id,
        command_id=command_id,
        operation="ship" if isinstance(body, ShippingRequested) else "cancel",
        outcome=outcome,
        reason=reason[:200],
        due_at=due_at,
    )


def _ship(
    shipment: Shipment | None,
    command_id: str,
    body: ShippingRequested,
    now: datetime,
    rules: Rules,
) -> Decision:
    if shipment is None:
        refused = refusal(body.address, rules)
        status: Status = "SHIPPED"
        if now > body.not_after:
            status, refused = "EXPIRED", "not_after"
        elif refused:
            status = "REFUSED"
        shipment = Shipment(
            order_id=body.order_id,
            status=status,
            version=1,
            shipment_id=ids.event_id(command_id, "shipment") if status == "SHIPPED" else "",
            address=body.address,
            reason=refused,
        )
    outcome: ShippingOutcome = "OK" if shipment.status == "SHIPPED" else shipment.status
    return Decision(shipment, _result(shipment, command_id, body, outcome))


def _cancel(shipment: Shipment | None, command_id: str, body: ShippingCancel) -> Decision:
    if shipment is None:
        shipment = Shipment(
            order_id=body.order_id, status="CANCELLED", version=1, reason="cancel_before_ship"
        )
    elif shipment.status != "CANCELLED":
        shipment = msgspec.structs.replace(
            shipment, status="CANCELLED", version=shipment.version + 1, reason=""
        )
    return Decision(shipment, _result(shipment, command_id, body, "OK"))


def _result(
    shipment: Shipment, command_id: str, body: Command, outcome: ShippingOutcome
) -> ShippingResult:
    return ShippingResult(
        order_id=shipment.order_id,
        command_id=command_id,
        operation="ship" if isinstance(body, ShippingRequested) else "cancel",
        outcome=outcome,
        reason=shipment.reason,
        shipment_id=shipment.shipment_id,
        state_version=shipment.version,
    )
