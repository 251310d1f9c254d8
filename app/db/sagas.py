"""Sagas in PostgreSQL: the fence of the working copies, the history and the order's status.

Guarantees: a saga moves only from the version its writer has seen; its state and reason are the
order's status, and there is no other copy. History is written for exactly the sagas that moved, in
the same transaction. All statements take a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.statements import statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Transaction


class StoredSaga(NamedTuple):
    """One saga; `body` is packed by the domain."""

    order_id: str
    version: int
    body: bytes


class HistoryEntry(NamedTuple):
    """One line of an order's history; `status` is the state after `event`."""

    event: str
    status: str
    reason: str
    cause_id: str
    at: datetime


class SagaWrite(NamedTuple):
    """One saga's move from version `expected` (0: it does not exist yet) to `version`.

    Several moves of one order in a batch are one write: the first `expected`, the last values and
    all `history`. `terminal` means that nothing is outstanding any more. `next_due` is when the
    saga wants to be woken, None when it does not.
    """

    order_id: str
    partition: int
    expected: int
    version: int
    state: str
    reason: str
    terminal: bool
    body: bytes
    next_due: datetime | None
    history: Sequence[HistoryEntry]


_LOAD = statement(
    "select order_id, version, body from orders.saga where order_id = any(:order_ids::uuid[])"
)
_MOVE = """
    with new as (
        select * from unnest(
            :order_ids::uuid[], :partitions::smallint[], :expected::int[], :versions::int[],
            :states::text[], :reasons::text[], :terminal::boolean[], :bodies::bytea[],
            :dues::timestamptz[])
        as new(order_id, partition, expected, version, state, reason, terminal, body, next_due)
    ), moved as (
        update orders.saga s
           set version = new.version, state = new.state, reason = new.reason,
               terminal = new.terminal, body = new.body, next_due = new.next_due,
               partition = new.partition, updated_at = :now
          from new
         where s.order_id = new.order_id and s.version = new.expected
        returning s.order_id
    ), begun as (
        insert into orders.saga (order_id, partition, version, state, reason, terminal, body,
                                 next_due, created_at, updated_at)
        select order_id, partition, version, state, reason, terminal, body, next_due, :now, :now
          from new where expected = 0
        on conflict (order_id) do nothing
        returning order_id
    )
    """
_WRITE = statement(f"{_MOVE} select order_id from moved union all select order_id from begun")
_WRITE_ALL = statement(
    f"{_MOVE} select ops.expect_rows("
    "(select count(*) from moved) + (select count(*) from begun), :rows)"
)
_HISTORY = statement(
    """
    insert into orders.order_history (order_id, saga_version, event, status, reason, cause_id, at)
    select * from unnest(:order_ids::uuid[], :versions::int[], :events::text[], :statuses::text[],
                         :reasons::text[], :cause_ids::text[], :times::timestamptz[])
    """
)
_PUT_OUT = statement(
    """
    select h.order_id, i.outputs
      from (select order_id, cause_id, min(id) as id from orders.order_history
             where order_id = any(:order_ids::uuid[]) and event <> ''
             group by order_id, cause_id) h
      join ops.inbox i on i.consumer = :consumer and i.event_id = h.cause_id::uuid
     order by h.id
    """
)
_IDLE = statement(
    """
    select order_id, version, body from orders.saga
     where partition = :partition and not terminal and updated_at < :idle_since
     order by updated_at limit :limit
    """
)
_TOUCH = statement(
    "update orders.saga set updated_at = :now where order_id = any(:order_ids::uuid[])"
)


async def load(tx: Transaction, order_ids: Sequence[str]) -> dict[str, StoredSaga]:
    """Return the stored sagas of `order_ids` by order id; orders without one are missing."""
    rows = await tx.fetch(_LOAD, order_ids=list(order_ids))
    return {row[0]: StoredSaga(*row) for row in rows}


async def put_out(
    tx: Transaction, consumer: str, order_ids: Sequence[str]
) -> dict[str, list[bytes]]:
    """The stored outputs of every event that moved one of these sagas, packed, in that order."""
    found: dict[str, list[bytes]] = {}
    for order_id, outputs in await tx.fetch(_PUT_OUT, consumer=consumer, order_ids=list(order_ids)):
        found.setdefault(order_id, []).append(outputs)
    return found


async def write(tx: Transaction, writes: Sequence[SagaWrite], now: datetime) -> set[str]:
    """Move the sagas (one write per order); return the orders whose version was as expected.

    For those, the history is queued and travels with the next round trip or COMMIT. The others are
    untouched: load them, decide again, write again. Raises ValueError when an order occurs twice.
    One round trip; none while `tx.guessing`: then all is queued, and a miss is a RowsMissed later.
    """
    ordered = sorted(writes, key=lambda one: one.order_id)
    if not ordered:
        return set()
    if len({one.order_id for one in ordered}) != len(ordered):
        raise ValueError("one write per order: merge several moves of one order")
    columns: dict[str, Any] = {
        "order_ids": [one.order_id for one in ordered],
        "partitions": [one.partition for one in ordered],
        "expected": [one.expected for one in ordered],
        "versions": [one.version for one in ordered],
        "states": [one.state for one in ordered],
        "reasons": [one.reason for one in ordered],
        "terminal": [one.terminal for one in ordered],
        "bodies": [one.body for one in ordered],
        "dues": [one.next_due for one in ordered],
        "now": now,
    }
    if tx.guessing:
        tx.later(_WRITE_ALL, rows=len(ordered), **columns)
        hit = {one.order_id for one in ordered}
    else:
        hit = {row[0] for row in await tx.fetch(_WRITE, **columns)}
    _record(tx, [one for one in ordered if one.order_id in hit])
    return hit


def _record(tx: Transaction, moved: Sequence[SagaWrite]) -> None:
    lines = [(one, entry) for one in moved for entry in one.history]
    if lines:
        tx.later(
            _HISTORY,
            order_ids=[one.order_id for one, _ in lines],
            versions=[one.version for one, _ in lines],
            events=[entry.event for _, entry in lines],
            statuses=[entry.status for _, entry in lines],
            reasons=[entry.reason for _, entry in lines],
            cause_ids=[entry.cause_id for _, entry in lines],
            times=[entry.at for _, entry in lines],
        )


async def idle(
    tx: Transaction, partition: int, idle_since: datetime, limit: int
) -> list[StoredSaga]:
    """Return running sagas of a partition not touched after `idle_since`, longest idle first."""
    rows = await tx.fetch(_IDLE, partition=partition, idle_since=idle_since, limit=limit)
    return [StoredSaga(*row) for row in rows]


def touch(tx: Transaction, order_ids: Sequence[str], now: datetime) -> None:
    """Queue: these sagas were re-driven at `now`, so they are not idle again for a while."""
    tx.later(_TOUCH, order_ids=list(order_ids), now=now)
