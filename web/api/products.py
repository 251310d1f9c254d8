"""Views of the catalogue: what can be ordered, at which price, and how much is left."""

from __future__ import annotations

import msgspec
from aiohttp import web

from app.db import order_reads
from app.observability.health import json_response
from web.api.money import format_minor
from web.api.paging import LIMIT, limit_of
from web.context import CONTEXT
from web.problems import Problem, not_found
from web.routes import Param, Route


class ProductOut(msgspec.Struct, frozen=True, rename="camel"):
    """One product; `available` is the stock that is not held, null when stock is not kept."""

    product_id: str
    name: str
    category: str
    price: str
    price_minor: int
    currency: str
    available: int | None


class ProductsOut(msgspec.Struct, frozen=True):
    """A part of the catalogue."""

    products: list[ProductOut]
    next: str | None


async def listing(request: web.Request) -> web.Response:
    """GET /api/products?limit=&after=: by product id."""
    after = request.query.get("after", "")
    if "\0" in after:
        raise Problem(400, "bad_parameter", "after must be a product id.")
    limit = limit_of(request)
    rows = await order_reads.products(request.app[CONTEXT].db, limit, after)
    following = rows[-1].sku if len(rows) == limit else None
    return json_response(ProductsOut([_out(row) for row in rows], following))


async def show(request: web.Request) -> web.Response:
    """GET /api/products/{productId}."""
    sku = request.match_info["product_id"]
    row = None if "\0" in sku else await order_reads.product(request.app[CONTEXT].db, sku)
    if row is None:
        raise not_found("product")
    return json_response(_out(row))


def _out(row: order_reads.ProductRow) -> ProductOut:
    return ProductOut(
        product_id=row.sku,
        name=row.name,
        category=row.category,
        price=format_minor(row.price_minor, row.currency),
        price_minor=row.price_minor,
        currency=row.currency,
        available=row.available,
    )


_LIST = (
    LIMIT,
    Param("after", str, "continue after this product id"),
)
ROUTES = (
    Route("GET", "/api/products", listing, "List products", ProductsOut, params=_LIST,
          problems=(400,)),
    Route("GET", "/api/products/{product_id}", show, "Read a product", ProductOut),
)  # fmt: skip
