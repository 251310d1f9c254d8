"""Who is told what: one template per kind, as data; pure.

An event brings about at most one notification. Of all events with one subject (an order, a SKU, a
rule, a client) and one kind, one is told: the id of the notification is derived from both, and is
what a sink recognises a repeat by.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from app import ids
from app.messages import (
    ApiRateLimited,
    Body,
    ChaosInjected,
    InventoryResult,
    OrderCancel,
    OrderCreated,
    OrderStatusChanged,
    PaymentResult,
    ShippingResult,
    StockLow,
)

Audience = Literal["customer", "operator"]
NAMESPACE = "5b0f6f3e-8f0a-5c1d-9a54-6c1f0d3f7b21"


class Template(NamedTuple):
    """One kind of notification: of which message, under which values, to whom, and the words.

    `when` maps members of the body to the value they must have. `text` names members in braces;
    the subject is the message's key.
    """

    kind: str
    body: type[Body]
    when: Mapping[str, Any]
    audience: Audience
    text: str


class Notice(NamedTuple):
    """One notification: `id` is the same for every event that would bring it about."""

    id: str
    subject: str
    kind: str
    audience: Audience
    text: str


class Message(msgspec.Struct, frozen=True):
    """What a sink gets; `id` is its key to recognise a repeat by, `at` when the event happened."""

    id: str
    subject: str
    kind: str
    audience: str
    text: str
    at: datetime


TEMPLATES: tuple[Template, ...] = (
    Template("order_received", OrderCreated, {"review": False}, "customer",
             "We have your order {order_id}."),
    Template("order_in_review", OrderCreated, {"review": True}, "customer",
             "We have your order {order_id}; a person looks at it before anything is charged."),
    Template("cancel_requested", OrderCancel, {}, "customer",
             "We have the request to cancel your order {order_id}."),
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
             "{sku} runs low: {available} available."),
    Template("stock_critical", StockLow, {"level": "critical"}, "operator",
             "{sku} is nearly sold out: {available} available."),
    Template("chaos_injected", ChaosInjected, {}, "operator",
             "The laboratory struck: {fault} of rule {rule_id} at {worker}."),
    Template("rate_limited", ApiRateLimited, {}, "operator",
             "Client {client} asks more often than {limit_per_min} times a minute."),
)  # fmt: skip
"""Every kind, in the order in which the documentation tells them."""

_BY_BODY: dict[type[Body], list[Template]] = {}
for _one in TEMPLATES:
    _BY_BODY.setdefault(_one.body, []).append(_one)


def notice_of(body: Body) -> Notice | None:
    """Return what is told of an event, None for nothing. Raises nothing for a declared message."""
    template = _template_of(body)
    if template is None:
        return None
    subject = str(getattr(body, type(body).KEY))
    text = template.text.format(**msgspec.structs.asdict(body))
    identity = ids.uuid5(NAMESPACE, f"{template.kind}:{subject}")
    return Notice(identity, subject, template.kind, template.audience, text)


def is_told(body: Body) -> bool:
    """Whether anything is told of an event."""
    return _template_of(body) is not None


def _template_of(body: Body) -> Template | None:
    for template in _BY_BODY.get(type(body), ()):
        if all(_is(getattr(body, name), value) for name, value in template.when.items()):
            return template
    return None


def _is(found: Any, wanted: Any) -> bool:
    """Whether a member is as wanted; True asks for anything that is not empty."""
    return bool(found) if wanted is True else bool(found == wanted)
