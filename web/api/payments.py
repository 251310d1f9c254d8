"""Views of payments: what became of an order's charge."""

from __future__ import annotations

from datetime import datetime

import msgspec
from aiohttp import web

from app.db import payment_reads
from app.observability.health import json_response
from web.api.money import format_minor
from web.api.orders import order_id_of
from web.context import CONTEXT
from web.problems import not_found
from web.routes import Param, Route


class PaymentOut(msgspec.Struct, frozen=True, rename="camel"):
    """The payment of an order; `status` is NONE while no charge was begun.

    `delivery` says how the charge command fares: CALLING the provider, RETRYING after a failure,
    PARKED as a dead letter until somebody acts, or DONE; null while it was not taken up.
    `tries` counts how often the provider was tried since the command was last sent, `redrives` how
    often it was sent again under its id. `arm` is who took it up first, stable or canary.
    """

    order_id: str
    status: str
    reason: str | None
    delivery: str | None
    tries: int
    redrives: int
    arm: str | None
    amount: str
    amount_minor: int
    currency: str
    payment_id: str | None
    requested_at: datetime | None
    updated_at: datetime | None


async def status(request: web.Request) -> web.Response:
    """GET /api/payments/status/{orderId}; 404 for an order that does not exist."""
    row = await payment_reads.payment(request.app[CONTEXT].db, order_id_of(request))
    if row is None:
        raise not_found("order")
    return json_response(
        PaymentOut(
            order_id=row.order_id,
            status=row.status or "NONE",
            reason=row.reason or None,
            delivery=row.delivery or None,
            tries=row.tries,
            redrives=row.redrives,
            arm=row.arm or None,
            amount=format_minor(row.amount_minor, row.currency),
            amount_minor=row.amount_minor,
            currency=row.currency,
            payment_id=row.payment_id or None,
            requested_at=row.created_at,
            updated_at=row.updated_at,
        )
    )


ROUTES = (
    Route(
        "GET",
        "/api/payments/status/{order_id}",
        status,
        "Read what became of an order's charge",
        PaymentOut,
        params=(Param("order_id", str, "the id of an order", required=True),),
        tag="payments",
    ),
)
