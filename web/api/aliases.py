"""Other addresses of the orders, as older clients know them: the same views, nothing of its own."""

from __future__ import annotations

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from web.api import orders
from web.api.bodies import ADDRESS_MAX, CUSTOMER_MAX, order_of_query
from web.api.drafts import OrderReply
from web.api.orders import LIST_PARAMS, PLACED_HEADERS, OrdersOut
from web.ops import pages
from web.problems import Problem
from web.routes import IDEMPOTENCY_KEY, Param, Route

HTML: Final = "text/html"


async def mine(request: web.Request) -> web.StreamResponse:
    """GET /api/orders/my-orders?customerId=: the orders of one customer, newest first."""
    if not request.query.get("customerId"):
        raise Problem(400, "bad_parameter", "customerId is needed.")
    return await orders.recent(request)


async def everything(request: web.Request) -> web.StreamResponse:
    """GET /api/orders/all: what GET /api/orders answers."""
    return await orders.recent(request)


async def listing(request: web.Request) -> web.StreamResponse:
    """GET /orders: what GET /api/orders answers, or the page of it for a browser."""
    if HTML in request.headers.get("Accept", ""):
        return await pages.index(request)
    return await orders.recent(request)


async def start(request: web.Request) -> web.StreamResponse:
    """POST /api/orders/start?amount=&customerId=&shippingAddress=: an amount in EUR, no body."""
    return await orders.store_order(request, order_of_query(request.query), 202)


_CUSTOMER: Any = Annotated[str, Meta(min_length=1, max_length=CUSTOMER_MAX)]
_MINE = tuple(
    param._replace(required=True) if param.name == "customerId" else param for param in LIST_PARAMS
)
_START = (
    Param("amount", Annotated[str, Meta(examples=["12.50"])], "in EUR, 12.50", required=True),
    Param("customerId", _CUSTOMER, "who orders", required=True),
    Param("shippingAddress", Annotated[str, Meta(max_length=ADDRESS_MAX)], "where to"),
)
ROUTES: Final = (
    Route(
        "GET", "/api/orders/all", everything, "List orders (alias)", OrdersOut, params=LIST_PARAMS,
        problems=(400,), tag="aliases",
    ),
    Route(
        "GET", "/api/orders/my-orders", mine, "List a customer's orders (alias)", OrdersOut,
        params=_MINE, problems=(400,), tag="aliases",
    ),
    Route(
        "GET", "/orders", listing, "List orders (alias)", OrdersOut, params=LIST_PARAMS,
        problems=(400,), tag="aliases",
    ),
    Route(
        "POST", "/api/orders/start", start, "Place an order without a body (alias)", OrderReply,
        status=202, params=_START, problems=(400, 422), headers=(IDEMPOTENCY_KEY,),
        reply_headers=PLACED_HEADERS, tag="aliases",
    ),
)  # fmt: skip
