"""From a checked request to an order that can be stored: prices, total, events and reply. Pure.

Guarantees: the total is the catalogue's, never the client's; the reply stored with an idempotency
key is byte for byte what the first client got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from os import urandom
from typing import NamedTuple

import msgspec

from app import ids, topics
from app.db.intake import NewOrder, Price
from app.db.seed import UNTRACKED_SKU
from app.messages import Cause, Item, OrderCancel, OrderCreated, OrderReviewed, Output, emit
from web.api.bodies import Line, OrderRequest, money
from web.api.money import MINOR_MAX, format_minor
from web.api.screening import PENDING, REJECTED, RULES, Screening
from web.problems import Problem, invalid


@dataclass(frozen=True, slots=True)
class Draft:
    """An order request received `at`, with all its ids; `key` is empty without one.

    Nothing about it changes when its batch is tried again, so neither does its reply.
    """

    order_id: str
    request: OrderRequest
    key: str
    body_hash: bytes
    request_id: str
    traceparent: str
    at: datetime
    tracestate: str = ""


class OrderReply(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to an accepted order; `total` is in major units.

    `status` is PENDING, REVIEW when a person must look first, REJECTED when no person need to.
    """

    order_id: str
    status: str
    customer_id: str
    total: str
    total_minor: int
    currency: str
    created_at: datetime


def new_order_id(now: datetime) -> str:
    """Return a UUID of version 7: unique and, unlike version 4, appended to indexes in order."""
    digits = f"{int(now.timestamp() * 1000):012x}{urandom(10).hex()}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


class Priced(NamedTuple):
    """A request with the catalogue's prices."""

    draft: Draft
    items: tuple[Item, ...]
    total_minor: int
    currency: str

    @property
    def order_id(self) -> str:
        """The id of the order to be."""
        return self.draft.order_id

    @property
    def customer_id(self) -> str:
        """Whose order it is."""
        return self.draft.request.customer_id

    @property
    def key(self) -> str:
        """Its idempotency key, or nothing."""
        return self.draft.key

    @property
    def at(self) -> datetime:
        """When the request was received."""
        return self.draft.at


def price(draft: Draft, prices: Mapping[str, Price]) -> Priced | Problem:
    """Return the priced request, or the 422 for unknown products, wrong claims, a wrong sum."""
    try:
        items, currency = _items(draft.request, prices)
    except Problem as problem:
        return problem
    total_minor = sum(item.quantity * item.unit_price_minor for item in items)
    if not 0 < total_minor <= MINOR_MAX:
        return invalid("the total must be greater than 0 and at most 10^12 minor units", "$.items")
    return Priced(draft, items, total_minor, currency)


def finish(priced: Priced, screening: Screening, source: str) -> NewOrder:
    """Return the order to store, told and answered as its screening wants it."""
    draft, items, total_minor, currency = priced
    held = screening.status != PENDING
    reply = OrderReply(
        draft.order_id,
        screening.status,
        draft.request.customer_id,
        format_minor(total_minor, currency),
        total_minor,
        currency,
        draft.at,
    )
    return NewOrder(
        order_id=draft.order_id,
        customer_id=draft.request.customer_id,
        total_minor=total_minor,
        currency=currency,
        shipping_address=draft.request.shipping_address,
        items=items,
        event=_created(draft, items, total_minor, currency, source, review=held),
        key=draft.key,
        body_hash=draft.body_hash,
        reply=msgspec.json.encode(reply),
        created_at=draft.at,
        review=screening.review,
        rejection=_rejected(draft, source) if screening.status == REJECTED else None,
    )


def cancel_event(
    order_id: str, reason: str, cause: Cause, now: datetime, source: str
) -> tuple[str, Output]:
    """Return id and record of a customer's cancel request; the same order gives the same id."""
    identity = ids.event_id(order_id, topics.ORDER_CANCEL.name)
    body = OrderCancel(order_id=order_id, reason=reason, requested_by="customer")
    record = emit(cause, topics.ORDER_CANCEL, body, event_id=identity, now=now, source=source)
    return identity, record


def _items(request: OrderRequest, prices: Mapping[str, Price]) -> tuple[tuple[Item, ...], str]:
    if not request.lines:
        item = Item(
            product_id=UNTRACKED_SKU,
            quantity=1,
            unit_price_minor=request.total_minor,
            tracked=False,
        )
        return (item,), request.currency
    currency = ""
    items = []
    for at, line in enumerate(request.lines):
        known = _known(line, prices.get(line.product_id), request.currency or currency, at)
        currency = known.currency
        items.append(
            Item(
                product_id=line.product_id,
                quantity=line.quantity,
                unit_price_minor=known.price_minor,
                tracked=known.tracked,
            )
        )
    return tuple(items), currency


def _known(line: Line, found: Price | None, currency: str, at: int) -> Price:
    pointer = f"$.items[{at}]"
    if found is None:
        raise invalid(f"there is no product {line.product_id}", f"{pointer}.productId")
    if currency and currency != found.currency:
        raise invalid(f"{line.product_id} is sold in {found.currency}", f"{pointer}.productId")
    if line.unit_price:
        claim = money(line.unit_price, found.currency, f"{pointer}.unitPrice")
        if claim != found.price_minor:
            current = format_minor(found.price_minor, found.currency)
            raise invalid(f"the price is {current} {found.currency}", f"{pointer}.unitPrice")
    return found


def _created(
    draft: Draft,
    items: tuple[Item, ...],
    total_minor: int,
    currency: str,
    source: str,
    *,
    review: bool,
) -> Output:
    body = OrderCreated(
        order_id=draft.order_id,
        customer_id=draft.request.customer_id,
        items=list(items),
        total_minor=total_minor,
        currency=currency,
        shipping_address=draft.request.shipping_address,
        created_at=draft.at,
        review=review,
    )
    return emit(
        Cause(draft.order_id, draft.request_id, draft.traceparent, draft.tracestate),
        topics.ORDER_CREATED,
        body,
        event_id=ids.event_id(draft.order_id, topics.ORDER_CREATED.name),
        now=draft.at,
        source=source,
    )


def _rejected(draft: Draft, source: str) -> Output:
    """The event that rejects an order; whoever reads it before the creation keeps it in mind."""
    created = ids.event_id(draft.order_id, topics.ORDER_CREATED.name)
    return reviewed_event(
        OrderReviewed(order_id=draft.order_id, approved=False, reviewed_by=RULES, reason="score"),
        Cause(created, draft.request_id, draft.traceparent, draft.tracestate),
        draft.at,
        source,
    )


def reviewed_event(body: OrderReviewed, cause: Cause, now: datetime, source: str) -> Output:
    """Return the record of a review; an order has one, whatever was decided."""
    identity = ids.event_id(body.order_id, topics.ORDER_REVIEWED.name)
    return emit(cause, topics.ORDER_REVIEWED, body, event_id=identity, now=now, source=source)
