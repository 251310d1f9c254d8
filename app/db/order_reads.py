"""What the API and the pages read: orders with lines and history, products.

Guarantees: every list is bounded by its caller's `limit` and paged by key; a list of one status
looks at LOOKED_MAX orders at most. Reads are single statements, so each is consistent in itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from app.db.cursor import NEWEST, OLDEST, Cursor
from app.db.intake import STATUS_CREATED
from app.db.seed import UNTRACKED_SKU
from app.db.statements import statement

if TYPE_CHECKING:
    from app.db.engine import Database

LOOKED_MAX: Final = 10_000
HISTORY_MAX: Final = 500
"""How many orders one page of a status looks at: what is rare must not read the whole table."""


class OrderRow(NamedTuple):
    """One order with the status its saga gives it; without one PENDING, or REVIEW when it is held.

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


class ProductRow(NamedTuple):
    """One product on sale; `available` is None when it has no stock row."""

    sku: str
    name: str
    category: str
    price_minor: int
    currency: str
    available: int | None


_STATUS = f"coalesce(s.state, case when o.review then 'REVIEW' else '{STATUS_CREATED}' end)"
_ORDER_COLUMNS = (
    f"o.order_id, o.customer_id, {_STATUS}, coalesce(s.reason, ''),"
    " coalesce(s.version, 0), o.total_minor, o.currency, o.shipping_address, o.created_at,"
    " coalesce(s.updated_at, o.created_at)"
)
_ORDERS = "orders.orders o left join orders.saga s on s.order_id = o.order_id"
OLDER = "(o.created_at, o.order_id) < (:before_at ::timestamptz, :before_id ::uuid)"
NOT_OLDER_THAN = "(o.created_at, o.order_id) >= (:from_at ::timestamptz, :from_id ::uuid)"
NEWEST_FIRST = "order by o.created_at desc, o.order_id desc limit :limit"
_ORDER = statement(f"select {_ORDER_COLUMNS} from {_ORDERS} where o.order_id = :order_id")
_LINES = statement(
    "select product_id, quantity, unit_price_minor, tracked from orders.order_item"
    " where order_id = :order_id order by line"
)
_HISTORY = statement(
    "select saga_version, case event when '' then status else event end, status, reason, at"
    " from orders.order_history where order_id = :order_id order by id limit :limit"
)
_OF_CUSTOMER = "(:customer = '' or o.customer_id = :customer)"
_LISTED = statement(
    f"select {_ORDER_COLUMNS} from {_ORDERS} where {OLDER} and {NOT_OLDER_THAN} and {_OF_CUSTOMER}"
    f" and (:status = '' or {_STATUS} = :status) {NEWEST_FIRST}"
)
_PLACE = statement(
    f"select o.created_at, o.order_id from orders.orders o where {OLDER} and {_OF_CUSTOMER}"
    " order by o.created_at desc, o.order_id desc offset :looked - 1 limit 1"
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


class OrderFilter(NamedTuple):
    """Which orders; empty and None ask for nothing. `since` is included, `until` is not."""

    status: str = ""
    customer: str = ""
    since: datetime | None = None
    until: datetime | None = None


EVERY_ORDER = OrderFilter()


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


async def history(db: Database, order_id: str) -> list[HistoryRow]:
    """Return what happened to an order, oldest first, at most HISTORY_MAX entries."""
    rows = await db.fetch(_HISTORY, order_id=order_id, limit=HISTORY_MAX)
    return [HistoryRow(*row) for row in rows]


async def recent(
    db: Database, limit: int, before: Cursor = NEWEST, wanted: OrderFilter = EVERY_ORDER
) -> OrderPage:
    """Return at most `limit` orders as `wanted`, older than `before`, newest first.

    With a status it looks at the next LOOKED_MAX orders (of the customer, if one is wanted), so a
    page may be short, even empty, and not be the last.
    """
    if wanted.until is not None:
        before = min(before, Cursor(wanted.until, OLDEST.id))
    start = Cursor(wanted.since, OLDEST.id) if wanted.since is not None else OLDEST
    last = None
    if wanted.status:
        last = await looked_to(db, before, wanted.customer)
        last = last if last is not None and last > start else None
    first = last or start
    rows = await db.fetch(
        _LISTED,
        before_at=before.at,
        before_id=before.id,
        from_at=first.at,
        from_id=first.id,
        status=wanted.status,
        customer=wanted.customer,
        limit=limit,
    )
    return _page(rows, limit, last)


async def looked_to(db: Database, before: Cursor, customer: str = "") -> Cursor | None:
    """Return the place LOOKED_MAX orders after `before`; None when there are not so many."""
    places = await db.fetch(
        _PLACE,
        before_at=before.at,
        before_id=before.id,
        customer=customer,
        looked=LOOKED_MAX,
    )
    return Cursor(*places[0]) if places else None


def _page(rows: list[tuple[Any, ...]], limit: int, last: Cursor | None) -> OrderPage:
    """A full page continues after its last order, another one at `last`."""
    orders = [OrderRow(*row) for row in rows]
    if len(orders) == limit:
        last = Cursor(orders[-1].created_at, orders[-1].order_id)
    return OrderPage(orders, last)


async def products(db: Database, limit: int, after: str) -> list[ProductRow]:
    """Return at most `limit` products on sale whose SKU follows `after`, by SKU."""
    rows = await db.fetch(_PRODUCTS, untracked=UNTRACKED_SKU, after=after, limit=limit)
    return [ProductRow(*row) for row in rows]


async def product(db: Database, sku: str) -> ProductRow | None:
    """Return one product on sale or None."""
    rows = await db.fetch(_PRODUCT, untracked=UNTRACKED_SKU, sku=sku)
    return ProductRow(*rows[0]) if rows else None
