"""Messages between the orchestrator and the inventory participant, and its stock warning."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from app.messages.body import Body, Count, Id, Instant, Name, Quantity, Text
from app.messages.orders import ITEMS_MAX

InventoryOutcome = Literal[
    "OK", "OUT_OF_STOCK", "REFUSED", "EXPIRED", "CANCELLED", "RETRYING", "PARKED"
]

Units = Annotated[int, Meta(ge=0, le=10**15)]


class StockLine(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity of one stock keeping unit."""

    sku: Name
    quantity: Quantity


class InventoryRequested(Body, frozen=True, kw_only=True):
    """Hold all lines or none; an order without tracked lines has none and is always held."""

    TOPICS: ClassVar = ("inventory.requested",)

    order_id: Id
    lines: Annotated[list[StockLine], Meta(max_length=ITEMS_MAX)]
    not_after: Instant


class InventoryRelease(Body, frozen=True, kw_only=True):
    """Give back what the order holds, whether or not it was ever held."""

    TOPICS: ClassVar = ("inventory.release",)

    order_id: Id


class InventoryCommit(Body, frozen=True, kw_only=True):
    """What the order holds has left the building."""

    TOPICS: ClassVar = ("inventory.commit",)

    order_id: Id


class InventoryResult(Body, frozen=True, kw_only=True):
    """What became of an inventory command."""

    TOPICS: ClassVar = ("inventory.result",)

    order_id: Id
    command_id: Id
    operation: Literal["reserve", "release", "commit"]
    outcome: InventoryOutcome
    reason: Text = ""
    due_at: Instant | None = None
    state_version: Count = 0


class StockLow(Body, frozen=True, kw_only=True):
    """The available quantity of a stock keeping unit fell below a threshold.

    `restocked`: units ever put in, so that what is said of different stocks can be told apart.
    """

    TOPICS: ClassVar = ("stock.low",)
    KEY: ClassVar = "sku"

    sku: Name
    available: Count
    level: Literal["low", "critical"] = "low"
    restocked: Units = 0
