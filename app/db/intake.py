"""Orders as the API takes them in: many per transaction, idempotency keys, cancel requests.

Guarantees: repeating `insert` with the same orders changes nothing, so a batch whose COMMIT was
never answered may be repeated; of all requests with one idempotency key one creates an order.
It writes no order status: that is the orchestrator's saga, and an order without one is PENDING.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from app.db import outbox, reviews
from app.db.seed import UNTRACKED_SKU
from app.db.statements import statement
from app.messages import Item, Output

if TYPE_CHECKING:
    from app.db.engine import Database, Transaction

STATUS_CREATED = "PENDING"
CANCEL_REQUESTED = "cancel_requested"


class NewOrder(NamedTuple):
    """One accepted order; `key` is empty without Idempotency-Key, `reply` what a repeat gets.

    `review` is its score when it is held for a person or rejected; `rejection` is the event that
    rejects it at once.
    """

    order_id: str
    customer_id: str
    total_minor: int
    currency: str
    shipping_address: str | None
    items: tuple[Item, ...]
    event: Output
    key: str
    body_hash: bytes
    reply: bytes
    created_at: datetime
    review: reviews.NewReview | None = None
    rejection: Output | None = None

    @property
    def events(self) -> tuple[Output, ...]:
        """What goes into the outbox with the order."""
        return (self.event,) if self.rejection is None else (self.event, self.rejection)


class Price(NamedTuple):
    """What the catalogue says about a product on sale."""

    price_minor: int
    currency: str
    tracked: bool


class Claim(NamedTuple):
    """Who holds an idempotency key."""

    order_id: str
    body_hash: bytes
    reply: bytes


class Cancellable(NamedTuple):
    """What a cancel request needs to know of its order."""

    status: str
    requested: bool


_PRICES = statement(
    "select sku, price_minor, currency, tracked from catalog.product"
    " where sku = any(:skus ::text[]) and active and sku <> :untracked"
)
# In key order, so that two batches with common keys wait for each other in one direction only.
_CLAIM = statement(
    "insert into orders.idempotency (key, body_hash, order_id, reply, created_at)"
    " select key, body_hash, order_id, reply, :now"
    " from unnest(:keys ::text[], :hashes ::bytea[], :order_ids ::uuid[], :replies ::bytea[])"
    " as claim(key, body_hash, order_id, reply) order by key"
    " on conflict (key) do nothing returning key"
)
_CLAIMS = statement(
    "select key, order_id, body_hash, reply from orders.idempotency where key = any(:keys ::text[])"
)
_ORDERS = statement(
    "insert into orders.orders (order_id, customer_id, total_minor, currency,"
    " shipping_address, review, created_at)"
    " select order_id, customer_id, total_minor, currency, address, review, at"
    " from unnest(:order_ids ::uuid[], :customer_ids ::text[], :totals ::bigint[],"
    " :currencies ::text[], :addresses ::text[], :reviews ::boolean[], :times ::timestamptz[])"
    " as new(order_id, customer_id, total_minor, currency, address, review, at)"
    " on conflict (order_id) do nothing"
)
_ITEMS = statement(
    "insert into orders.order_item"
    " (order_id, line, product_id, quantity, unit_price_minor, tracked)"
    " select * from unnest(:order_ids ::uuid[], :lines ::smallint[], :product_ids ::text[],"
    " :quantities ::int[], :prices ::bigint[], :tracked ::boolean[])"
    " on conflict (order_id, line) do nothing"
)
_LOCK = statement("select from orders.orders where order_id = :order_id for no key update")
# A statement of its own: in one with the lock, it would see what was there before the wait.
_CANCELLABLE = statement(
    "select coalesce(s.state, :created), exists(select from orders.order_history h"
    " where h.order_id = o.order_id and h.status = :requested)"
    " from orders.orders o left join orders.saga s on s.order_id = o.order_id"
    " where o.order_id = :order_id"
)
_HISTORY = statement(
    "insert into orders.order_history (order_id, saga_version, status, reason, cause_id, at)"
    " select o.order_id, coalesce(s.version, 0), :status, :reason, :cause_id, :now"
    " from orders.orders o left join orders.saga s on s.order_id = o.order_id"
    " where o.order_id = :order_id"
)
_FORGET = statement(
    "delete from orders.idempotency where ctid = any(array("
    "select ctid from orders.idempotency where created_at < :before limit :limit))"
)


async def prices(tx: Transaction, skus: Sequence[str]) -> dict[str, Price]:
    """Return the price of each product of `skus` that is on sale; the others are missing."""
    rows = await tx.fetch(_PRICES, skus=list(skus), untracked=UNTRACKED_SKU)
    return {sku: Price(*rest) for sku, *rest in rows}


async def known_keys(tx: Transaction, keys: Sequence[str]) -> set[str]:
    """Return which of `keys` are claimed already."""
    return {key for key, *_ in await tx.fetch(_CLAIMS, keys=list(keys))}


async def claim(tx: Transaction, orders: Sequence[NewOrder], now: datetime) -> dict[str, Claim]:
    """Claim the idempotency keys of `orders` (distinct keys); return those somebody else holds.

    Waits for a transaction that is claiming the same key. A key claimed by an earlier attempt of
    the same order counts as ours.
    """
    if not orders:
        return {}
    claimed = await tx.fetch(
        _CLAIM,
        keys=[order.key for order in orders],
        hashes=[order.body_hash for order in orders],
        order_ids=[order.order_id for order in orders],
        replies=[order.reply for order in orders],
        now=now,
    )
    ours = {key for (key,) in claimed}
    lost = {order.key: order.order_id for order in orders if order.key not in ours}
    if not lost:
        return {}
    rows = await tx.fetch(_CLAIMS, keys=list(lost))
    holders = {key: Claim(*rest) for key, *rest in rows}
    return {key: holder for key, holder in holders.items() if holder.order_id != lost[key]}


def insert(tx: Transaction, orders: Sequence[NewOrder], now: datetime) -> None:
    """Queue orders, lines, scores and outbox rows; they travel with the transaction's COMMIT."""
    tx.later(
        _ORDERS,
        order_ids=[order.order_id for order in orders],
        customer_ids=[order.customer_id for order in orders],
        totals=[order.total_minor for order in orders],
        currencies=[order.currency for order in orders],
        addresses=[order.shipping_address for order in orders],
        reviews=[order.review is not None for order in orders],
        times=[order.created_at for order in orders],
    )
    lines = [(order, at, item) for order in orders for at, item in enumerate(order.items, 1)]
    tx.later(
        _ITEMS,
        order_ids=[order.order_id for order, _, _ in lines],
        lines=[at for _, at, _ in lines],
        product_ids=[item.product_id for _, _, item in lines],
        quantities=[item.quantity for _, _, item in lines],
        prices=[item.unit_price_minor for _, _, item in lines],
        tracked=[item.tracked for _, _, item in lines],
    )
    held = [order.review for order in orders if order.review is not None]
    if held:
        reviews.insert(tx, held)
    outbox.append(tx, [event for order in orders for event in order.events], now)


def lock(tx: Transaction, order_id: str) -> None:
    """Queue: lock the order until the transaction ends, so that its events keep their order."""
    tx.later(_LOCK, order_id=order_id)


async def lock_for_cancel(tx: Transaction, order_id: str) -> Cancellable | None:
    """Lock the order until the transaction ends; None when there is no such order.

    The lock keeps other cancel requests of the order waiting, not the orchestrator: `status` may
    be over before the request is decided.
    """
    lock(tx, order_id)
    rows = await tx.fetch(
        _CANCELLABLE, order_id=order_id, created=STATUS_CREATED, requested=CANCEL_REQUESTED
    )
    return Cancellable(*rows[0]) if rows else None


def request_cancel(
    tx: Transaction, order_id: str, event: Output, cause_id: str, reason: str, now: datetime
) -> None:
    """Queue the history entry and the `order.cancel` event of a locked order."""
    tx.later(
        _HISTORY,
        order_id=order_id,
        status=CANCEL_REQUESTED,
        reason=reason,
        cause_id=cause_id,
        now=now,
    )
    outbox.append(tx, [event], now)


async def forget_keys(db: Database, before: datetime, limit: int) -> int:
    """Delete at most `limit` idempotency keys claimed before `before`; return how many."""
    return await db.execute(_FORGET, before=before, limit=limit)
