"""Views of orders: place, read, list, cancel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from app import ids
from app.db import intake, order_reads
from app.domain.definition import FINAL, State
from app.failpoints import failpoint
from app.observability import metrics
from app.observability.health import json_response
from app.observability.tracing import now_ns
from web.api.bodies import (
    CancelIn,
    OrderIn,
    OrderRequest,
    idempotency_key,
    read_cancel,
    read_order,
)
from web.api.drafts import Draft, OrderReply, cancel_event, new_order_id
from web.api.filters import CUSTOMER_MAX, choice, choice_of, instant, instant_of, text_of
from web.api.money import format_minor
from web.api.paging import BEFORE, LIMIT, next_cursor, page_of
from web.api.writer import OrderWriter
from web.context import CONTEXT
from web.edge import REQUEST_ID, state_of, trace_of
from web.messages import cause_of, committed, source_of
from web.problems import Problem, not_found
from web.routes import IDEMPOTENCY_KEY, Param, Route

WRITER: web.AppKey[OrderWriter] = web.AppKey("writer", OrderWriter)
STATUSES: Final = (intake.STATUS_CREATED, *(str(state) for state in State))


class LineOut(msgspec.Struct, frozen=True, rename="camel"):
    """One line; `unit_price` is in major units."""

    product_id: str
    quantity: int
    unit_price: str
    unit_price_minor: int


class HistoryOut(msgspec.Struct, frozen=True, rename="camel"):
    """One thing that happened to an order: `event`, and the status it left the order in.

    A cancellation is told by `cancel_requested`, then `cancelled` or `cancel_refused`.
    """

    event: str
    status: str
    reason: str
    at: datetime
    saga_version: int


class OrderOut(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One order; `items` and `history` are given for a single order only."""

    order_id: str
    status: str
    reason: str | None
    customer_id: str
    total: str
    total_minor: int
    currency: str
    shipping_address: str | None
    created_at: datetime
    updated_at: datetime
    items: list[LineOut] | None = None
    history: list[HistoryOut] | None = None


class OrdersOut(msgspec.Struct, frozen=True):
    """A part of the list of orders."""

    orders: list[OrderOut]
    next: str | None


class CancelOut(msgspec.Struct, frozen=True, rename="camel"):
    """A request to cancel was taken; the order's history tells what became of it."""

    order_id: str
    status: str
    cancel_requested: bool = True


async def place(request: web.Request) -> web.Response:
    """POST /api/orders: 202 once the order is durable."""
    wanted = await read_order(request, request.app[CONTEXT].settings.api_items_max)
    return await store_order(request, wanted, 202)


async def place_created(request: web.Request) -> web.Response:
    """POST /orders, the alias of older clients: the same, answered with 201."""
    wanted = await read_order(request, request.app[CONTEXT].settings.api_items_max)
    return await store_order(request, wanted, 201)


async def store_order(request: web.Request, wanted: OrderRequest, status: int) -> web.Response:
    """Answer with `status` once what is `wanted` is durable, or was so before under its key."""
    context = request.app[CONTEXT]
    key = idempotency_key(request)
    now = context.clock.now()
    draft = Draft(
        order_id=new_order_id(now),
        request=wanted,
        key=key,
        body_hash=wanted.digest() if key else b"",
        request_id=request[REQUEST_ID],
        traceparent=trace_of(request),
        at=now,
        tracestate=state_of(request),
    )
    stored = await request.app[WRITER].store(draft)
    metrics.API_ORDERS.child("replayed" if stored.replayed else "accepted").inc()
    headers = {"Location": f"/api/orders/{stored.order_id}"}
    if stored.replayed:
        headers["Idempotency-Replayed"] = "true"
    return web.Response(
        body=stored.reply, status=status, content_type="application/json", headers=headers
    )


async def show(request: web.Request) -> web.Response:
    """GET /api/orders/{orderId}: the order with its lines and history."""
    db = request.app[CONTEXT].db
    order_id = order_id_of(request)
    order = await order_reads.order(db, order_id)
    if order is None:
        raise not_found("order")
    lines = await order_reads.lines(db, order_id)
    history = await order_reads.history(db, order_id)
    return json_response(order_out(order, lines, history))


async def recent(request: web.Request) -> web.Response:
    """GET /api/orders?limit=&before=&status=&customerId=&from=&to=: newest first.

    `next` continues until it is null. With `status` a page may hold fewer orders than `limit`, even
    none, and still have a `next`.
    """
    limit, before = page_of(request)
    wanted = order_reads.OrderFilter(
        status=choice_of(request, "status", STATUSES),
        customer=text_of(request, "customerId"),
        since=instant_of(request, "from"),
        until=instant_of(request, "to"),
    )
    page = await order_reads.recent(request.app[CONTEXT].db, limit, before, wanted)
    listed = [order_out(row) for row in page.orders]
    return json_response(OrdersOut(listed, next_cursor(page.following)))


async def cancel(request: web.Request) -> web.Response:
    """POST /api/orders/{orderId}/cancel: 202, the orchestrator decides; 409 when it is over."""
    context = request.app[CONTEXT]
    order_id = order_id_of(request)
    body = await read_cancel(request)
    now = context.clock.now()
    cause, source = cause_of(request, order_id), source_of(context.settings)
    began_ns = now_ns()
    event_id, event = cancel_event(order_id, body.reason, cause, now, source)
    async with context.db.transaction() as tx:
        order = await intake.lock_for_cancel(tx, order_id)
        if order is None:
            raise not_found("order")
        if order.status in FINAL:
            raise Problem(409, "already_final", f"The order is {order.status}.")
        if not order.requested:
            intake.request_cancel(tx, order_id, event, event_id, body.reason, now)
        await failpoint("web.before_cancel_commit")
    await failpoint("web.after_cancel_commit")
    if not order.requested:
        committed((event,), cause.traceparent, began_ns)
    return json_response(CancelOut(order_id, order.status), status=202)


def order_id_of(request: web.Request, what: str = "order") -> str:
    """Return the order id in the path; raises Problem 404 for a `what` when it cannot be one."""
    order_id = request.match_info["order_id"].lower()
    if not ids.is_uuid(order_id):
        raise not_found(what)
    return order_id


def history_out(row: order_reads.HistoryRow) -> HistoryOut:
    """Return the JSON form of one entry of a history."""
    return HistoryOut(row.event, row.status, row.reason, row.at, row.saga_version)


def order_out(
    row: order_reads.OrderRow,
    lines: list[order_reads.LineRow] | None = None,
    history: list[order_reads.HistoryRow] | None = None,
) -> OrderOut:
    """Return the JSON form of an order."""
    return OrderOut(
        order_id=row.order_id,
        status=row.status,
        reason=row.reason or None,
        customer_id=row.customer_id,
        total=format_minor(row.total_minor, row.currency),
        total_minor=row.total_minor,
        currency=row.currency,
        shipping_address=row.shipping_address,
        created_at=row.created_at,
        updated_at=row.updated_at,
        items=None if lines is None else [_line_out(line, row.currency) for line in lines],
        history=None if history is None else [history_out(entry) for entry in history],
    )


def _line_out(line: order_reads.LineRow, currency: str) -> LineOut:
    price = format_minor(line.unit_price_minor, currency)
    return LineOut(line.product_id, line.quantity, price, line.unit_price_minor)


LIST_PARAMS: Final = (
    LIMIT,
    BEFORE,
    choice("status", STATUSES, "only orders of this status"),
    Param(
        "customerId",
        Annotated[str, Meta(min_length=1, max_length=CUSTOMER_MAX)],
        "only orders of this customer",
    ),
    instant("from", "only orders placed then or later"),
    instant("to", "only orders placed before then"),
)
PLACED_HEADERS: Final = (
    Param("Location", str, "where the order is read"),
    Param("Idempotency-Replayed", Literal["true"], "an earlier request placed this order"),
)
_EXAMPLES = (
    ("amount", {"customerId": "ada", "total": "12.50", "currency": "EUR"}),
    (
        "items",
        {
            "customerId": "ada",
            "items": [{"productId": "ROSIN", "quantity": 2}],
            "shippingAddress": "Musikvereinsplatz 1, 1010 Vienna, AT",
        },
    ),
)
_BODY_PROBLEMS = (400, 413, 415, 422)
ROUTES: Final = (
    Route(
        "POST", "/api/orders", place, "Place an order", OrderReply, OrderIn, status=202,
        problems=_BODY_PROBLEMS, headers=(IDEMPOTENCY_KEY,), reply_headers=PLACED_HEADERS,
        examples=_EXAMPLES,
    ),
    Route(
        "POST", "/orders", place_created, "Place an order (alias)", OrderReply, OrderIn, status=201,
        problems=_BODY_PROBLEMS, headers=(IDEMPOTENCY_KEY,), reply_headers=PLACED_HEADERS,
        examples=_EXAMPLES,
    ),
    Route(
        "GET", "/api/orders", recent, "List orders", OrdersOut, params=LIST_PARAMS, problems=(400,),
    ),
    Route("GET", "/api/orders/{order_id}", show, "Read an order", OrderOut),
    Route(
        "POST", "/api/orders/{order_id}/cancel", cancel, "Ask for an order's cancellation",
        CancelOut, CancelIn, status=202, problems=(409, *_BODY_PROBLEMS), body_required=False,
        examples=(("reason", {"reason": "changed my mind"}),),
    ),
)  # fmt: skip
