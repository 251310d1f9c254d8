"""Who is told what: one template per kind, as data; pure.

An event brings about at most one notification. Of all events with one subject (an order, a SKU, a
rule, a client), one kind and one occurrence, one is told: the id of the notification is derived
from the three, and is what a sink recognises a repeat by. An order has one occurrence of each kind;
what tells those of the others apart is a member of the message, named by the template.

Every event stands in `TEMPLATES` or, with the reason, in `UNTOLD`: a test asks for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from app import ids
from app.messages import (
    ApiRateLimited,
    Body,
    ChaosInjected,
    InventoryCommit,
    InventoryRelease,
    InventoryRequested,
    InventoryResult,
    OrderCancel,
    OrderCreated,
    OrderOperate,
    OrderReviewed,
    OrderStatusChanged,
    PaymentRefund,
    PaymentRequested,
    PaymentResult,
    ShippingCancel,
    ShippingRequested,
    ShippingResult,
    StockLow,
)

Audience = Literal["customer", "operator"]
NAMESPACE = "5b0f6f3e-8f0a-5c1d-9a54-6c1f0d3f7b21"


class Template(NamedTuple):
    """One kind of notification: of which message, under which values, to whom, and the words.

    `when` maps members of the body to the value they must have: one of a tuple's, for True any that
    is not empty, for False an empty one. `text` names members in braces; the subject is the
    message's key. `per` names the member that tells occurrences apart, of an instant its UTC day.
    """

    kind: str
    body: type[Body]
    when: Mapping[str, Any]
    audience: Audience
    text: str
    per: str = ""


class Untold(NamedTuple):
    """Messages of which nobody is told, with the reason; `when` as in a template."""

    body: type[Body]
    when: Mapping[str, Any]
    reason: str


class Notice(NamedTuple):
    """One notification: `id` is the same for every event that would bring it about.

    `occurrence` is empty for an order's.
    """

    id: str
    subject: str
    kind: str
    occurrence: str
    audience: Audience
    text: str


class Message(msgspec.Struct, frozen=True):
    """What a sink gets; `id` is its key to recognise a repeat by, `at` when the event happened."""

    id: str
    subject: str
    kind: str
    occurrence: str
    audience: str
    text: str
    at: datetime


TEMPLATES: tuple[Template, ...] = (
    Template("order_received", OrderCreated, {"review": False}, "customer",
             "We have your order {order_id}."),
    Template("order_in_review", OrderCreated, {"review": True}, "customer",
             "We have your order {order_id}; a person looks at it before anything is charged."),
    Template("review_approved", OrderReviewed, {"approved": True}, "customer",
             "We have looked at your order {order_id}, and it goes ahead."),
    Template("cancel_requested", OrderCancel, {}, "customer",
             "We have the request to cancel your order {order_id}."),
    Template("payment_charged", PaymentResult, {"operation": "charge", "outcome": "OK"}, "customer",
             "The payment of your order {order_id} went through."),
    Template("payment_declined", PaymentResult, {"operation": "charge", "outcome": "DECLINED"},
             "customer", "The payment of your order {order_id} was declined: {reason}."),
    Template("payment_refunded", PaymentResult,
             {"operation": "refund", "outcome": "OK", "payment_id": True}, "customer",
             "What you have paid for your order {order_id} is on its way back to you."),
    Template("out_of_stock", InventoryResult, {"operation": "reserve", "outcome": "OUT_OF_STOCK"},
             "customer", "Something of your order {order_id} is sold out."),
    Template("shipped", ShippingResult, {"operation": "ship", "outcome": "OK"}, "customer",
             "Your order {order_id} is on its way: {shipment_id}."),
    Template("shipping_refused", ShippingResult, {"operation": "ship", "outcome": "REFUSED"},
             "customer", "We cannot ship your order {order_id}: {reason}."),
    Template("shipment_cancelled", ShippingResult,
             {"operation": "cancel", "outcome": "OK", "shipment_id": True}, "customer",
             "The shipment {shipment_id} of your order {order_id} was called back."),
    Template("order_completed", OrderStatusChanged, {"status": "COMPLETED"}, "customer",
             "Your order {order_id} is complete."),
    Template("order_cancelled", OrderStatusChanged, {"status": "CANCELLED"}, "customer",
             "Your order {order_id} is cancelled ({reason}); nothing is kept of what you paid."),
    Template("order_rejected", OrderStatusChanged, {"status": "REJECTED"}, "customer",
             "We cannot accept your order {order_id}; nothing was charged."),
    Template("order_parked", OrderStatusChanged, {"status": "PARKED"}, "operator",
             "Order {order_id} waits for a person ({reason}): symphony saga parked."),
    Template("payment_parked", PaymentResult, {"outcome": "PARKED"}, "operator",
             "The {operation} of order {order_id} is dead-lettered: {reason}."),
    Template("inventory_parked", InventoryResult, {"outcome": "PARKED"}, "operator",
             "The {operation} of order {order_id} is dead-lettered: {reason}."),
    Template("shipping_parked", ShippingResult, {"outcome": "PARKED"}, "operator",
             "The {operation} of order {order_id} is dead-lettered: {reason}."),
    Template("stock_low", StockLow, {"level": "low"}, "operator",
             "{sku} runs low: {available} available.", per="restocked"),
    Template("stock_critical", StockLow, {"level": "critical"}, "operator",
             "{sku} is nearly sold out: {available} available.", per="restocked"),
    Template("chaos_injected", ChaosInjected, {}, "operator",
             "The laboratory struck: {fault} of rule {rule_id} at {worker}.", per="rule_version"),
    Template("rate_limited", ApiRateLimited, {}, "operator",
             "Client {client} asks more often than {limit_per_min} times a minute.", per="at"),
)  # fmt: skip
"""Every kind, in the order in which the documentation tells them."""

_COMMAND = "a command: what comes of it is told"
_AGAIN = "tried again by itself; what comes of it is told"
_NEVER = "no participant answers so"
UNTOLD: tuple[Untold, ...] = (
    *(Untold(body, {}, _COMMAND) for body in (
        PaymentRequested, PaymentRefund, InventoryRequested, InventoryRelease, InventoryCommit,
        ShippingRequested, ShippingCancel,
    )),
    Untold(OrderOperate, {}, "an operator's own act: the audit log has it, what it does is told"),
    Untold(OrderReviewed, {"approved": False}, "`order_rejected` tells it"),
    Untold(OrderStatusChanged, {"status": (
        "PAYMENT_PENDING", "INVENTORY_PENDING", "SHIPPING_PENDING", "COMMIT_PENDING",
    )}, "a step on the way"),
    Untold(OrderStatusChanged, {"status": "REVIEW"}, "`order_in_review` has told it"),
    Untold(OrderStatusChanged, {"status": "COMPENSATING"},
           "on the way to `order_cancelled` or `order_parked`"),
    Untold(PaymentResult, {"outcome": "RETRYING"}, _AGAIN),
    Untold(PaymentResult, {"outcome": ("EXPIRED", "CANCELLED")},
           "nothing was charged: `order_cancelled` tells it"),
    Untold(PaymentResult, {"operation": "refund", "outcome": "OK", "payment_id": False},
           "nothing had been charged: `order_cancelled` tells it"),
    Untold(PaymentResult, {"operation": "refund", "outcome": "DECLINED"}, _NEVER),
    Untold(InventoryResult, {"outcome": "RETRYING"}, _AGAIN),
    Untold(InventoryResult, {"outcome": ("EXPIRED", "CANCELLED")},
           "nothing was held: `order_cancelled` tells it"),
    Untold(InventoryResult, {"operation": "reserve", "outcome": "OK"}, "a step on the way"),
    Untold(InventoryResult, {"operation": "release", "outcome": "OK"},
           "`order_cancelled` tells it"),
    Untold(InventoryResult, {"operation": "commit", "outcome": "OK"}, "`order_completed` tells it"),
    Untold(InventoryResult, {"outcome": "REFUSED"}, "`order_parked` tells it"),
    Untold(InventoryResult, {"operation": ("release", "commit"), "outcome": "OUT_OF_STOCK"},
           _NEVER),
    Untold(ShippingResult, {"outcome": "RETRYING"}, _AGAIN),
    Untold(ShippingResult, {"outcome": ("EXPIRED", "CANCELLED")},
           "nothing was shipped: `order_cancelled` tells it"),
    Untold(ShippingResult, {"operation": "cancel", "outcome": "OK", "shipment_id": False},
           "nothing had been shipped: `order_cancelled` tells it"),
    Untold(ShippingResult, {"operation": "cancel", "outcome": "REFUSED"}, _NEVER),
)  # fmt: skip
"""What nobody is told of, in the order in which the documentation tells it."""

_BY_BODY: dict[type[Body], list[Template]] = {}
for _one in TEMPLATES:
    _BY_BODY.setdefault(_one.body, []).append(_one)


def notice_of(body: Body) -> Notice | None:
    """Return what is told of an event, None for nothing. Raises nothing for a declared message."""
    template = _template_of(body)
    if template is None:
        return None
    subject = str(getattr(body, type(body).KEY))
    occurrence = _occurrence(getattr(body, template.per)) if template.per else ""
    text = template.text.format(**msgspec.structs.asdict(body))
    name = f"{template.kind}:{subject}:{occurrence}" if occurrence else f"{template.kind}:{subject}"
    identity = ids.uuid5(NAMESPACE, name)
    return Notice(identity, subject, template.kind, occurrence, template.audience, text)


def is_told(body: Body) -> bool:
    """Whether anything is told of an event."""
    return _template_of(body) is not None


def matches(body: Body, when: Mapping[str, Any]) -> bool:
    """Whether the members of `body` are as `when` says."""
    for name, wanted in when.items():
        found = getattr(body, name)
        if isinstance(wanted, tuple):
            if found not in wanted:
                return False
        elif (bool(found) if isinstance(wanted, bool) else found) != wanted:
            return False
    return True


def _template_of(body: Body) -> Template | None:
    for template in _BY_BODY.get(type(body), ()):
        if matches(body, template.when):
            return template
    return None


def _occurrence(found: Any) -> str:
    if isinstance(found, datetime):
        return found.astimezone(UTC).date().isoformat()
    return str(found)
