"""Messages between the orchestrator and the shipping participant."""

from __future__ import annotations

from typing import ClassVar, Literal

from app.messages.body import Address, Body, Count, Id, Instant, Text

ShippingOutcome = Literal["OK", "REFUSED", "EXPIRED", "CANCELLED", "RETRYING", "PARKED"]


class ShippingRequested(Body, frozen=True, kw_only=True):
    """Ship the order, unless it cannot be started before `not_after`."""

    TOPICS: ClassVar = ("shipping.requested",)

    order_id: Id
    address: Address | None = None
    not_after: Instant


class ShippingCancel(Body, frozen=True, kw_only=True):
    """Void the shipment, whether or not it was ever made."""

    TOPICS: ClassVar = ("shipping.cancel",)

    order_id: Id


class ShippingResult(Body, frozen=True, kw_only=True):
    """What became of a shipping command."""

    TOPICS: ClassVar = ("shipping.result",)

    order_id: Id
    command_id: Id
    operation: Literal["ship", "cancel"]
    outcome: ShippingOutcome
    reason: Text = ""
    shipment_id: Text = ""
    due_at: Instant | None = None
    state_version: Count = 0
