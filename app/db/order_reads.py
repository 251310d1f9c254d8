"""What the API and the pages read: orders with lines and history, sagas, products.

Guarantees: every list is bounded by its caller's `limit` and paged by key; a list of one status
looks at LOOKED_MAX orders at most. Reads are single statements, so each is consistent in itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from app.db.intake import STATUS_CREATED
from app.db.seed import UNTRACKED_SKU
from app.db.statements import statement

if TYPE_CHECKING:
    from app.db.engine import Database

LOOKED_MAX: Final = 10_000
"""How many orders one page of a status looks at: what is rare must not read the whole table."""


class OrderRow(NamedTuple):
    """One order with the status its saga gives it, PENDING while there is no saga.

    `updated_at` is when the saga last moved or was re-driven.
    """

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
    f"o.order_id, o.customer_id, coalesce(s.state, '{STATUS_CREATED}'), coalesce(s.reason, ''),"
    " coalesce(s.version, 0), o.total_minor, o.currency, o.shipping_address, o.created_at,"
    " coalesce(s.updated_at, o.created_at)"
)
_ORDERS = "orders.orders o left join orders.saga s on s.order_id = o.order_id"
_OLDER = "(o.created_at, o.order_id) < (:before_at ::timestamptz, :before_id ::uuid)"
_NEWEST_FIRST = "order by o.created_at desc, o.order_id desc limit :limit"
_SAGA_COLUMNS = (
    "s.order_id, s.version, s.state, s.terminal, s.body, s.next_due, s.created_at, s.updated_at"
)
_ORDER = statement(f"select {_ORDER_COLUMNS} from {_ORDERS} where o.order_id = :order_id")
_LINES = statement(
    "select product_id, quantity, unit_price_minor, tracked from orders.order_item"
    " where order_id = :order_id order by line"
)
_HISTORY = statement(
    "select saga_version, case event when '' then status else event end, status, reason, at"
    " from orders.order_history where order_id = :order_id order by id limit :limit"
)
_RECENT = statement(f"select {_ORDER_COLUMNS} from {_ORDERS} where {_OLDER} {_NEWEST_FIRST}")
_RECENT_OF_STATUS = statement(
    f"select {_ORDER_COLUMNS} from {_ORDERS} where {_OLDER}"
    " and (o.created_at, o.order_id) >= (:from_at ::timestamptz, :from_id ::uuid)"
    f" and coalesce(s.state, '{STATUS_CREATED}') = :status {_NEWEST_FIRST}"
)
_PLACE = statement(
    f"select o.created_at, o.order_id from orders.orders o where {_OLDER}"
    " order by o.created_at desc, o.order_id desc offset :looked - 1 limit 1"
)
_SAGA = statement(f"select {_SAGA_COLUMNS} from orders.saga s where order_id = :order_id")
_RECENT_SAGAS = statement(
    f"select {_SAGA_COLUMNS}, o.created_at from orders.orders o"
    f" join orders.saga s on s.order_id = o.order_id where {_OLDER} {_NEWEST_FIRST}"
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
OLDEST = Cursor(datetime.min.replace(tzinfo=UTC), "00000000-0000-0000-0000-000000000000")


class OrderPage(NamedTuple):
    """A part of a list; `following` continues it and is None at its end."""

    orders: list[OrderRow]
    following: Cursor | None


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


async def recent(db: Database, limit: int, before: Cursor = NEWEST) -> OrderPage:
    """Return at most `limit` orders older than `before`, newest first."""
    rows = await db.fetch(
        _RECENT, before_at=before.created_at, before_id=before.order_id, limit=limit
    )
    return _page(rows, limit, None)


async def recent_of_status(
    db: Database, status: str, limit: int, before: Cursor = NEWEST
) -> OrderPage:
    """Return at most `limit` orders of `status` among the LOOKED_MAX orders older than `before`.

    So a page may be short, even empty, and not be the last.
    """
    older = {"before_at": before.created_at, "before_id": before.order_id}
    places = await db.fetch(_PLACE, **older, looked=LOOKED_MAX)
    last = Cursor(*places[0]) if places else None
    start = last or OLDEST
    rows = await db.fetch(
        _RECENT_OF_STATUS,
        **older,
        from_at=start.created_at,
        from_id=start.order_id,
        status=status,
        limit=limit,
    )
    return _page(rows, limit, last)


def _page(rows: list[tuple[Any, ...]], limit: int, last: Cursor | None) -> OrderPage:
    """A full page continues after its last order, another one at `last`."""
    orders = [OrderRow(*row) for row in rows]
    if len(orders) == limit:
        last = Cursor(orders[-1].created_at, orders[-1].order_id)
    return OrderPage(orders, last)


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
