"""What the API and the pages read: orders with lines and history, sagas, products.

Guarantees: every list is bounded by its caller's `limit` and paged by key, never by offset.
Reads are single statements, so each is consistent in itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from app.db.seed import UNTRACKED_SKU
from app.db.statements import statement

if TYPE_CHECKING:
    from app.db.engine import Database


class OrderRow(NamedTuple):
    """One order as stored."""

    order_id: str
    customer_id: str
    status: str
    reason: str
    saga_version: int
    total_minor: int
    currency: str
    shipping_address: str | None
    created_at: datetime
    updated_at: datetime


class LineRow(NamedTuple):
    """One line of an order."""

    product_id: str
    quantity: int
    unit_price_minor: int
    tracked: bool


class HistoryRow(NamedTuple):
    """One entry of an order's history, oldest first; `status` is the state after `event`."""

    saga_version: int
    event: str
    status: str
    reason: str
    at: datetime


class SagaRow(NamedTuple):
    """One saga as stored; `body` is packed by the domain."""

    order_id: str
    version: int
    state: str
    terminal: bool
    body: bytes
    next_due: datetime | None
    created_at: datetime
    updated_at: datetime


class ProductRow(NamedTuple):
    """One product on sale; `available` is None when it has no stock row."""

    sku: str
    name: str
    category: str
    price_minor: int
    currency: str
    available: int | None


_ORDER_COLUMNS = (
    "o.order_id, o.customer_id, o.status, o.reason, o.saga_version, o.total_minor, o.currency,"
    " o.shipping_address, o.created_at, o.updated_at"
)
_SAGA_COLUMNS = (
    "s.order_id, s.version, s.state, s.terminal, s.body, s.next_due, s.created_at, s.updated_at"
)
_ORDER = statement(f"select {_ORDER_COLUMNS} from orders.orders o where order_id = :order_id")
_LINES = statement(
    "select product_id, quantity, unit_price_minor, tracked from orders.order_item"
    " where order_id = :order_id order by line"
)
_HISTORY = statement(
    "select saga_version, case event when '' then status else event end, status, reason, at"
    " from orders.order_history where order_id = :order_id order by id limit :limit"
)
_RECENT = statement(
    f"select {_ORDER_COLUMNS} from orders.orders o"
    " where (o.created_at, o.order_id) < (:before_at ::timestamptz, :before_id ::uuid)"
    " order by o.created_at desc, o.order_id desc limit :limit"
)
_SAGA = statement(f"select {_SAGA_COLUMNS} from orders.saga s where order_id = :order_id")
_RECENT_SAGAS = statement(
    f"select {_SAGA_COLUMNS}, o.created_at from orders.orders o"
    " join orders.saga s on s.order_id = o.order_id"
    " where (o.created_at, o.order_id) < (:before_at ::timestamptz, :before_id ::uuid)"
    " order by o.created_at desc, o.order_id desc limit :limit"
)
_PRODUCTS = statement(
    "select p.sku, p.name, p.category, p.price_minor, p.currency, s.available"
    " from catalog.product p left join inventory.stock s on s.sku = p.sku"
    " where p.active and p.sku <> :untracked and p.sku > :after order by p.sku limit :limit"
)
_PRODUCT = statement(
    "select p.sku, p.name, p.category, p.price_minor, p.currency, s.available"
    " from catalog.product p left join inventory.stock s on s.sku = p.sku"
    " where p.active and p.sku <> :untracked and p.sku = :sku"
)


class Cursor(NamedTuple):
    """A place in a list that is ordered newest first: continue after this order."""

    created_at: datetime
    order_id: str


NEWEST = Cursor(datetime.max.replace(tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff")


async def order(db: Database, order_id: str) -> OrderRow | None:
    """Return one order or None."""
    rows = await db.fetch(_ORDER, order_id=order_id)
    return OrderRow(*rows[0]) if rows else None


async def lines(db: Database, order_id: str) -> list[LineRow]:
    """Return the lines of an order."""
    return [LineRow(*row) for row in await db.fetch(_LINES, order_id=order_id)]


async def history(db: Database, order_id: str, limit: int = 500) -> list[HistoryRow]:
    """Return what happened to an order, oldest first, at most `limit` entries."""
    rows = await db.fetch(_HISTORY, order_id=order_id, limit=limit)
    return [HistoryRow(*row) for row in rows]


async def recent(db: Database, limit: int, before: Cursor = NEWEST) -> list[OrderRow]:
    """Return at most `limit` orders older than `before`, newest first."""
    rows = await db.fetch(
        _RECENT, before_at=before.created_at, before_id=before.order_id, limit=limit
    )
    return [OrderRow(*row) for row in rows]


async def saga(db: Database, order_id: str) -> SagaRow | None:
    """Return the saga of an order; None before the orchestrator has seen it."""
    rows = await db.fetch(_SAGA, order_id=order_id)
    return SagaRow(*rows[0]) if rows else None


async def recent_sagas(
    db: Database, limit: int, before: Cursor = NEWEST
) -> list[tuple[SagaRow, Cursor]]:
    """Return sagas of orders older than `before`, newest order first, with their place."""
    rows = await db.fetch(
        _RECENT_SAGAS, before_at=before.created_at, before_id=before.order_id, limit=limit
    )
    return [(SagaRow(*row[:-1]), Cursor(row[-1], row[0])) for row in rows]


async def products(db: Database, limit: int, after: str = "") -> list[ProductRow]:
    """Return at most `limit` products on sale whose SKU follows `after`, by SKU."""
    rows = await db.fetch(_PRODUCTS, untracked=UNTRACKED_SKU, after=after, limit=limit)
    return [ProductRow(*row) for row in rows]


async def product(db: Database, sku: str) -> ProductRow | None:
    """Return one product on sale or None."""
    rows = await db.fetch(_PRODUCT, untracked=UNTRACKED_SKU, sku=sku)
    return ProductRow(*rows[0]) if rows else None
