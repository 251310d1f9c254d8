"""Messages about an order: what customers ask for and what the orchestrator announces."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from app.messages.body import (
    Address,
    Amount,
    Body,
    Count,
    Currency,
    Id,
    Instant,
    Name,
    Quantity,
    Text,
    Total,
)

ITEMS_MAX = 100


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order; an untracked one (amount-only order) holds no stock."""

    product_id: Name
    quantity: Quantity
    unit_price_minor: Amount
    tracked: bool = True


class OrderCreated(Body, frozen=True, kw_only=True):
    """A customer's order was accepted; `review` holds it for a person, uncharged."""

    TOPICS: ClassVar = ("order.created",)

    order_id: Id
    customer_id: Name
    items: Annotated[list[Item], Meta(min_length=1, max_length=ITEMS_MAX)]
    total_minor: Total
    currency: Currency
    shipping_address: Address | None = None
    created_at: Instant
    review: bool = False


class OrderCancel(Body, frozen=True, kw_only=True):
    """Someone asks that the order be cancelled; `requested_by` is `customer` or `operator`."""

    TOPICS: ClassVar = ("order.cancel",)

    order_id: Id
    reason: Text = ""
    requested_by: Name = "customer"


class OrderReviewed(Body, frozen=True, kw_only=True):
    """A person approved or rejected an order that was held for review."""

    TOPICS: ClassVar = ("order.reviewed",)

    order_id: Id
    approved: bool
    reviewed_by: Name = "operator"
    reason: Text = ""


class OrderOperate(Body, frozen=True, kw_only=True):
    """An operator acts on the order's saga, provided that it still is at `expected_version`."""

    TOPICS: ClassVar = ("order.operate",)

    order_id: Id
    action: Literal["retry", "skip", "compensate", "resume"]
    expected_version: Count
    operator: Name = "operator"
    reason: Text = ""


class OrderStatusChanged(Body, frozen=True, kw_only=True):
    """The order entered `status`; `saga_version` orders these events of one order.

    `created_at` is when the order was accepted, null while that is not known; `held`: it waited for
    a person's review.
    """

    TOPICS: ClassVar = ("order.status_changed",)

    order_id: Id
    status: Name
    reason: Text = ""
    saga_version: Count
    created_at: Instant | None = None
    held: bool = False
