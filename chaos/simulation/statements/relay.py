"""Statements of `app.db.outbox` and `app.db.leases`.

Tables: outbox, outbox_parked, relay_lease, relay_member.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from app.db import engine, leases, outbox
from chaos.simulation.statements.registry import Answer, Params, runs

if TYPE_CHECKING:
    from datetime import datetime

    from chaos.simulation.database import Tx

OUTBOX, PARKED, LEASE, MEMBER = "outbox", "outbox_parked", "relay_lease", "relay_member"
EVENT = "outbox.event_id"
_HEADERS = (
    *("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"),
    *("ce_correlationid", "ce_causationid", "content_type", "traceparent", "tracestate"),
)


class OutboxRow(NamedTuple):
    """A row of ops.outbox, by id."""

    shard: int
    aggregate_id: str
    attempts: int
    created_at: datetime
    topic: str
    payload: bytes
    headers: tuple[str, ...]


class LeaseRow(NamedTuple):
    """A row of ops.relay_lease, by shard."""

    owner: str
    epoch: int
    expires_at: datetime


@runs(engine._PING)
async def ping(_tx: Tx, _p: Params) -> Answer:
    """The server answers."""
    return [(1,)]


@runs(outbox._APPEND)
async def append(tx: Tx, p: Params) -> Answer:
    """New rows; an event that is there already is left out."""
    names = ("aggregate_ids", "topics", "payloads", "shards", *_HEADERS)
    new = 0
    for key, topic, payload, shard, *headers in zip(*(p[name] for name in names), strict=True):
        row = OutboxRow(shard, key, 0, p["now"], topic, payload, tuple(headers))
        number = tx.server.next_id()
        if await tx.insert(EVENT, row.headers[1], number):
            tx.put(OUTBOX, number, row)
            new += 1
    return new


@runs(outbox._READ)
async def read(tx: Tx, p: Params) -> Answer:
    """The oldest rows of these shards, by id."""
    found = sorted(
        (number, row)
        for number, row in tx.rows(OUTBOX)
        if row.shard in p["shards"] and row.aggregate_id not in p["held"]
    )
    return [_read(number, row) for number, row in found[: p["limit"]]]


def _read(number: int, row: OutboxRow) -> tuple[Any, ...]:
    known = (number, row.shard, row.aggregate_id, row.attempts, row.created_at)
    return (*known, row.topic, row.payload, *row.headers)


@runs(outbox._REFUSED)
async def refused(tx: Tx, p: Params) -> Answer:
    """Count a refusal."""
    keys = await tx.lock(OUTBOX, p["ids"])
    for key in keys:
        row: Any = tx.get(OUTBOX, key)
        tx.put(OUTBOX, key, row._replace(attempts=row.attempts + 1))
    return len(keys)


@runs(outbox._PARK)
async def park(tx: Tx, p: Params) -> Answer:
    """Move a row to the parked ones."""
    keys = await tx.lock(OUTBOX, [p["id"]])
    for key in keys:
        tx.put(PARKED, key, (tx.get(OUTBOX, key), p["error"]))
        tx.put(OUTBOX, key, None)
    return len(keys)


@runs(outbox._LAG)
async def lag(tx: Tx, p: Params) -> Answer:
    """How many rows wait, and since when."""
    rows = [row for _, row in tx.rows(OUTBOX)]
    return [(min(len(rows), p["most"]), min((row.created_at for row in rows), default=None))]


@runs(leases._CREATE)
async def create(tx: Tx, p: Params) -> Answer:
    """One row per shard."""
    new = 0
    for shard in range(p["shards"]):
        new += await tx.insert(LEASE, shard, LeaseRow("", 0, tx.now))
    return new


@runs(leases._JOIN)
async def join(tx: Tx, p: Params) -> Answer:
    """A relay lives."""
    expires_at = tx.now + timedelta(seconds=p["ttl_s"])
    if not await tx.insert(MEMBER, p["owner"], expires_at):
        await tx.lock(MEMBER, [p["owner"]])
        tx.put(MEMBER, p["owner"], expires_at)
    return 1


@runs(leases._FORGET)
async def forget(tx: Tx, _p: Params) -> Answer:
    """Relays that are gone for an hour."""
    limit = tx.now - timedelta(hours=1)
    keys = await tx.lock(MEMBER, [key for key, at in tx.rows(MEMBER) if at < limit])
    for key in keys:
        tx.put(MEMBER, key, None)
    return len(keys)


@runs(leases._MEMBERS)
async def members(tx: Tx, _p: Params) -> Answer:
    """How many relays live."""
    return [(sum(at > tx.now for _, at in tx.rows(MEMBER)),)]


@runs(leases._LOCK)
async def lock(tx: Tx, p: Params) -> Answer:
    """All leases, locked."""
    keys = await tx.lock(LEASE, range(p["shards"]))
    rows: list[Any] = [tx.get(LEASE, key) for key in keys]
    return [
        (key, row.owner, row.epoch, row.expires_at > tx.now)
        for key, row in zip(keys, rows, strict=True)
    ]


@runs(leases._HOLD)
async def hold(tx: Tx, p: Params) -> Answer:
    """Hold shards under epochs."""
    expires_at = tx.now + timedelta(seconds=p["ttl_s"])
    for shard, epoch in zip(p["shards"], p["epochs"], strict=True):
        await tx.lock(LEASE, [shard])
        tx.put(LEASE, shard, LeaseRow(p["owner"], epoch, expires_at))
    return len(p["shards"])


@runs(leases._RELEASE)
async def release(tx: Tx, p: Params) -> Answer:
    """Give shards back."""
    released = 0
    for shard in await tx.lock(LEASE, p["shards"]):
        row: Any = tx.get(LEASE, shard)
        if row.owner == p["owner"]:
            tx.put(LEASE, shard, LeaseRow("", row.epoch, tx.now))
            released += 1
    return released


@runs(leases._LEAVE)
async def leave(tx: Tx, p: Params) -> Answer:
    """A relay is no longer counted."""
    keys = await tx.lock(MEMBER, [p["owner"]])
    for key in keys:
        tx.put(MEMBER, key, None)
    return len(keys)


@runs(leases._DELETE)
async def delete(tx: Tx, p: Params) -> Answer:
    """Delete rows of shards that are held under the epochs given."""
    held = set()
    for shard, epoch in zip(p["shards"], p["epochs"], strict=True):
        for key in await tx.lock(LEASE, [shard]):
            row: Any = tx.get(LEASE, key)
            if row.owner == p["owner"] and row.epoch == epoch:
                held.add(shard)
    keys = [key for key in await tx.lock(OUTBOX, p["ids"]) if _shard(tx, key) in held]
    for key in keys:
        tx.put(OUTBOX, key, None)
    return len(keys)


def _shard(tx: Tx, key: int) -> int:
    row: OutboxRow | None = tx.get(OUTBOX, key)
    assert row is not None
    return row.shard
