"""The pages: recent orders, one order with its saga; each has a fragment to fetch again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import jinja2
from aiohttp import web

from app.db import order_reads, saga_reads
from web.api.orders import order_id_of
from web.api.paging import cursor_of, next_cursor
from web.api.sagas import read_body, steps_of
from web.context import CONTEXT
from web.ops import views
from web.ops.assets import asset
from web.problems import not_found

ROWS: Final = 50

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["asset"] = asset


async def index(request: web.Request) -> web.Response:
    """GET /: the newest orders, older ones by `before`."""
    return render("orders.html", await _orders(request))


async def orders_fragment(request: web.Request) -> web.Response:
    """GET /ops/fragments/orders: what the orders page shows now."""
    return render("orders_fragment.html", await _orders(request))


async def order(request: web.Request) -> web.Response:
    """GET /orders/{orderId}: one order and the timeline of its saga."""
    return render("order.html", await _order(request))


async def order_fragment(request: web.Request) -> web.Response:
    """GET /ops/fragments/orders/{orderId}: what the order's page shows now."""
    return render("order_fragment.html", await _order(request))


def render(template: str, values: dict[str, Any], status: int = 200) -> web.Response:
    """Return a page; every value is escaped, a missing one is an error."""
    text = _TEMPLATES.get_template(template).render(values)
    return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)


def error_page(title: str, detail: str, status: int) -> web.Response:
    """Return what a browser shows when a page cannot be made."""
    return render("problem.html", {"page": "", "title": title, "detail": detail}, status)


async def _orders(request: web.Request) -> dict[str, Any]:
    before = request.query.get("before", "")
    found = await order_reads.recent(request.app[CONTEXT].db, ROWS, cursor_of(before))
    return {
        "page": "orders",
        "orders": [views.order_view(row) for row in found.orders],
        "paged": bool(before),
        "older": next_cursor(found.following),
        "query": f"?before={before}" if before else "",
        "origin": f"{request.scheme}://{request.host}",
    }


async def _order(request: web.Request) -> dict[str, Any]:
    db = request.app[CONTEXT].db
    order_id = order_id_of(request)
    row = await order_reads.order(db, order_id)
    if row is None:
        raise not_found("order")
    saga = await saga_reads.saga(db, order_id)
    lines = await order_reads.lines(db, order_id)
    history = await order_reads.history(db, order_id)
    return {
        "page": "order",
        "order": views.order_view(row),
        "timeline": views.timeline(row, history),
        "steps": steps_of(read_body(saga)) if saga is not None else [],
        "lines": views.line_views(lines, row.currency),
    }
