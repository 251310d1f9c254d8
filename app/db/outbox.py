"""The outbox: records that leave with the transaction that wrote them, and how a relay takes them.

Guarantees: a row is there if and only if its transaction committed; rows of one aggregate are read
in the order of their commits, provided the writer locks (or has just made) the aggregate's row
first. The columns are the record, for the relay and for Debezium's event router alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from app.db.statements import statement
from app.messages.envelope import VALUE_BYTES_MAX, Output

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Database, Transaction

SHARDS = 8
"""Fixed: rows carry their shard, and an aggregate must never change it."""

LAG_ROWS_MAX = 100_000

# The header's name on the wire and its column, in the order `emit` writes them.
_HEADERS = {
    "ce_specversion": "ce_specversion",
    "ce_id": "ce_id",
    "ce_source": "ce_source",
    "ce_type": "ce_type",
    "ce_time": "ce_time",
    "ce_correlationid": "ce_correlationid",
    "ce_causationid": "ce_causationid",
    "content-type": "content_type",
    "traceparent": "traceparent",
}
_STATE = "tracestate"


class OutboxRow(NamedTuple):
    """One record to be published; `attempts` counts how often Kafka refused it."""

    id: int
    shard: int
    aggregate_id: str
    attempts: int
    created_at: datetime
    output: Output


class Lag(NamedTuple):
    """What is not published yet; `rows` is counted up to LAG_ROWS_MAX."""

    rows: int
    oldest_created_at: datetime | None


_APPEND = statement(
    """
    insert into ops.outbox
           (event_id, aggregate_type, aggregate_id, topic,
            ce_specversion, ce_id, ce_source, ce_type, ce_time, ce_correlationid, ce_causationid,
            content_type, traceparent, tracestate, payload, shard, created_at)
    select ce_id::uuid, :aggregate_type, aggregate_id, topic,
           ce_specversion, ce_id, ce_source, ce_type, ce_time, ce_correlationid, ce_causationid,
           content_type, traceparent, tracestate, payload, shard, :now
      from unnest(:aggregate_ids::text[], :topics::text[],
                  :ce_specversion::text[], :ce_id::text[], :ce_source::text[], :ce_type::text[],
                  :ce_time::text[], :ce_correlationid::text[], :ce_causationid::text[],
                  :content_type::text[], :traceparent::text[], :tracestate::text[],
                  :payloads::bytea[], :shards::smallint[])
        as new(aggregate_id, topic,
               ce_specversion, ce_id, ce_source, ce_type, ce_time, ce_correlationid,
               ce_causationid, content_type, traceparent, tracestate, payload, shard)
    on conflict (event_id) do nothing
    """
)
_READ = statement(
    """
    select id, shard, aggregate_id, attempts, created_at, topic, payload,
           ce_specversion, ce_id, ce_source, ce_type, ce_time, ce_correlationid, ce_causationid,
           content_type, traceparent, tracestate
      from ops.outbox
     where shard = any(:shards::smallint[]) and aggregate_id <> all(:held::text[])
     order by id limit :limit
    """
)
_DELETE = statement("delete from ops.outbox where id = any(:ids::bigint[])")
_REFUSED = statement("update ops.outbox set attempts = attempts + 1 where id = any(:ids::bigint[])")
_COLUMNS = (
    "id, event_id, aggregate_type, aggregate_id, aggregate_version, topic, ce_id, ce_source,"
    " ce_type, ce_specversion, ce_time, ce_correlationid, ce_causationid, traceparent, tracestate,"
    " content_type, payload, shard, attempts, created_at"
)
_PARK = statement(
    "with gone as (delete from ops.outbox where id = :id returning *)"
    f" insert into ops.outbox_parked ({_COLUMNS}, error) select {_COLUMNS}, :error from gone"
)
_WAITING = statement("select from ops.outbox where event_id = :event_id ::uuid")
_LAG = statement(
    "select (select count(*) from (select from ops.outbox limit :most) counted),"
    " (select created_at from ops.outbox order by id limit 1)"
)


def shard_of(aggregate_id: str) -> int:
    """Return the shard of an aggregate: the same in every process and release."""
    return crc32(aggregate_id.encode()) % SHARDS


def append(
    tx: Transaction, outputs: Sequence[Output], now: datetime, aggregate_type: str = "order"
) -> None:
    """Queue one row per record; they travel with the transaction's next round trip or COMMIT.

    The record's key is the aggregate's id. A record whose event id stands in the outbox already
    is left out, so an unanswered COMMIT may be repeated. Raises ValueError for a record without
    key or value, one larger than any message may be, or with other headers than
    `app.messages.emit` writes.
    """
    if not outputs:
        return
    columns: dict[str, list[str]] = {column: [] for column in (*_HEADERS.values(), _STATE)}
    aggregate_ids, payloads = [], []
    for output in outputs:
        if output.key is None or output.value is None:
            raise ValueError("an outbox record needs a key and a value")
        if len(output.value) > VALUE_BYTES_MAX:
            raise ValueError(f"a value of {len(output.value)} bytes is larger than any message")
        headers = dict(output.headers)
        columns[_STATE].append(headers.pop(_STATE, b"").decode())
        if headers.keys() != _HEADERS.keys():
            raise ValueError(f"not the headers of an event: {sorted(headers)}")
        for name, column in _HEADERS.items():
            columns[column].append(headers[name].decode())
        aggregate_ids.append(output.key.decode())
        payloads.append(output.value)
    tx.later(
        _APPEND,
        aggregate_type=aggregate_type,
        aggregate_ids=aggregate_ids,
        topics=[output.topic for output in outputs],
        payloads=payloads,
        shards=[shard_of(aggregate_id) for aggregate_id in aggregate_ids],
        now=now,
        **columns,
    )


async def read(
    db: Database, shards: Sequence[int], limit: int, held: Sequence[str] = ()
) -> list[OutboxRow]:
    """Return the oldest rows of `shards`, by id, at most `limit`, without the aggregates `held`."""
    rows = await db.fetch(_READ, shards=list(shards), held=list(held), limit=limit)
    return [
        OutboxRow(row_id, shard, key, attempts, created_at, _record(topic, key, value, headers))
        for row_id, shard, key, attempts, created_at, topic, value, *headers in rows
    ]


async def delete(tx: Transaction, ids: Sequence[int]) -> int:
    """Delete published rows; return how many were still there."""
    return await tx.execute(_DELETE, ids=list(ids))


def count_refusal(tx: Transaction, ids: Sequence[int]) -> None:
    """Queue: these rows were refused by Kafka once more."""
    tx.later(_REFUSED, ids=list(ids))


def park(tx: Transaction, row_id: int, error: str) -> None:
    """Queue: move one row to ops.outbox_parked, where an operator finds it with its error."""
    tx.later(_PARK, id=row_id, error=error)


async def lag(db: Database) -> Lag:
    """Return how many rows wait and since when the oldest does, over all shards."""
    return Lag(*(await db.fetch(_LAG, most=LAG_ROWS_MAX))[0])


async def is_waiting(db: Database, event_id: str) -> bool:
    """Whether an event waits to be published."""
    return bool(await db.fetch(_WAITING, event_id=event_id))


def _record(topic: str, key: str, value: bytes, headers: Sequence[str]) -> Output:
    *texts, state = headers
    named = [(name, text.encode()) for name, text in zip(_HEADERS, texts, strict=True)]
    if state:
        named.append((_STATE, state.encode()))
    return Output(topic, key.encode(), value, named)
