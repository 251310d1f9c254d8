"""Orders that scored for fraud: their velocity at intake, the queue, and what a person decides.

Guarantees: while a transaction holds a customer, no other counts the same customer's orders, so two
orders at once do not both pass for the first; an order is decided once, however many try.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from app.db import outbox
from app.db.statements import statement
from app.messages import Output

if TYPE_CHECKING:
    from app.db.cursor import Cursor
    from app.db.engine import Database, Transaction

AUTO_REJECTED: Final = "AUTO_REJECTED"


class NewReview(NamedTuple):
    """The score of a new order; `decision` is empty when a person must decide."""

    order_id: str
    score: int
    reasons: Sequence[dict[str, Any]]
    decision: Literal["", "AUTO_REJECTED"]
    created_at: datetime


class ReviewRow(NamedTuple):
    """One scored order as it stands; `decision` is empty while a person has not decided."""

    order_id: str
    score: int
    reasons: list[dict[str, Any]]
    decision: str
    decided_by: str
    decision_reason: str
    created_at: datetime
    decided_at: datetime | None


class PendingRow(NamedTuple):
    """One order that waits for a person."""

    order_id: str
    customer_id: str
    total_minor: int
    currency: str
    score: int
    reasons: list[dict[str, Any]]
    created_at: datetime


class Held(NamedTuple):
    """What deciding needs to know; `decision` is None for an order that was never held."""

    state: str
    decision: str | None


# In the order of their numbers, so that two batches with common customers cannot wait in a circle.
_HOLD = statement("select pg_advisory_xact_lock(number) from unnest(:numbers::bigint[]) as number")
# A statement of its own: in one with the lock, it would see what was there before the wait.
# An earlier try of the same batch may have been committed, so its own orders do not count.
_EARLIER = statement(
    "select customer, count(*) from unnest(:customers::text[]) as customer, lateral"
    " (select from orders.orders o where o.customer_id = customer and o.created_at > :since"
    " and o.order_id <> all(:own::uuid[]) order by o.created_at desc limit :most) as placed"
    " group by customer"
)
_INSERT = statement(
    "insert into orders.fraud_review (order_id, score, reasons, decision, created_at)"
    " select order_id, score, reasons::jsonb, decision, at"
    " from unnest(:order_ids::uuid[], :scores::smallint[], :reasons::text[], :decisions::text[],"
    " :times::timestamptz[]) as new(order_id, score, reasons, decision, at)"
    " on conflict (order_id) do nothing"
)
_TOLD = statement(
    "select o.order_id, case when not o.review then 'PENDING' when f.decision = :rejected"
    " then 'REJECTED' else 'REVIEW' end"
    " from orders.orders o left join orders.fraud_review f on f.order_id = o.order_id"
    " where o.order_id = any(:order_ids::uuid[])"
)
_REVIEW = statement(
    "select order_id, score, reasons, decision, decided_by, decision_reason, created_at,"
    " decided_at from orders.fraud_review where order_id = :order_id"
)
_PENDING = statement(
    "select f.order_id, o.customer_id, o.total_minor, o.currency, f.score, f.reasons, f.created_at"
    " from orders.fraud_review f join orders.orders o on o.order_id = f.order_id"
    " left join orders.saga s on s.order_id = f.order_id"
    " where f.decision = '' and coalesce(s.state, 'REVIEW') = 'REVIEW'"
    " and (f.created_at, f.order_id) > (:after_at ::timestamptz, :after_id ::uuid)"
    " order by f.created_at, f.order_id limit :limit"
)
_LOCK = statement("select from orders.orders where order_id = :order_id for no key update")
_HELD = statement(
    "select coalesce(s.state, 'REVIEW'), f.decision from orders.orders o"
    " left join orders.saga s on s.order_id = o.order_id"
    " left join orders.fraud_review f on f.order_id = o.order_id where o.order_id = :order_id"
)
_DECIDE = statement(
    "update orders.fraud_review set decision = :decision, decided_by = :decided_by,"
    " decision_reason = :reason, decided_at = :now where order_id = :order_id and decision = ''"
)


async def velocity(
    tx: Transaction, customers: Sequence[str], since: datetime, most: int, own: Sequence[str]
) -> dict[str, int]:
    """Hold these customers until the transaction ends; return how many orders each placed.

    Orders of before `since` and those of `own` do not count, and not more than `most` are looked
    at. A customer without an order is missing. Waits for transactions that hold one of them.
    """
    names = sorted(set(customers))
    tx.later(_HOLD, numbers=sorted({_number(name) for name in names}))
    rows = await tx.fetch(_EARLIER, customers=names, since=since, most=most, own=list(own))
    return {str(customer): int(placed) for customer, placed in rows}


def insert(tx: Transaction, rows: Sequence[NewReview]) -> None:
    """Queue the rows of orders that are held or rejected; repeating it changes nothing."""
    tx.later(
        _INSERT,
        order_ids=[row.order_id for row in rows],
        scores=[row.score for row in rows],
        reasons=[msgspec.json.encode(row.reasons).decode() for row in rows],
        decisions=[row.decision for row in rows],
        times=[row.created_at for row in rows],
    )


async def told(tx: Transaction, order_ids: Sequence[str]) -> dict[str, str]:
    """Return with which status those of `order_ids` that are stored were accepted."""
    rows = await tx.fetch(_TOLD, order_ids=list(order_ids), rejected=AUTO_REJECTED)
    return {str(order_id): str(status) for order_id, status in rows}


async def review(db: Database, order_id: str) -> ReviewRow | None:
    """Return the score of an order and its decision; None for one that was never held."""
    rows = await db.fetch(_REVIEW, order_id=order_id)
    return ReviewRow(*rows[0]) if rows else None


async def pending(db: Database, limit: int, after: Cursor) -> list[PendingRow]:
    """Return at most `limit` orders that wait for a person, the longest waiting first.

    An order that was cancelled meanwhile waits for nobody.
    """
    rows = await db.fetch(_PENDING, after_at=after.at, after_id=after.id, limit=limit)
    return [PendingRow(*row) for row in rows]


async def lock(tx: Transaction, order_id: str) -> Held | None:
    """Lock the order until the transaction ends; None when there is no such order."""
    tx.later(_LOCK, order_id=order_id)
    rows = await tx.fetch(_HELD, order_id=order_id)
    return Held(*rows[0]) if rows else None


async def decide(
    tx: Transaction,
    order_id: str,
    event: Output,
    *,
    decision: Literal["APPROVED", "REJECTED"],
    decided_by: str,
    reason: str,
    now: datetime,
) -> bool:
    """Write the decision on an order and its `order.reviewed` event; False when it was decided."""
    written = await tx.execute(
        _DECIDE,
        order_id=order_id,
        decision=decision,
        decided_by=decided_by,
        reason=reason,
        now=now,
    )
    if written:
        outbox.append(tx, [event], now)
    return bool(written)


def _number(customer_id: str) -> int:
    """The advisory lock of a customer; two may share one, and then wait for each other."""
    digest = blake2b(customer_id.encode(), digest_size=8, person=b"velocity").digest()
    return int.from_bytes(digest, "big", signed=True)
