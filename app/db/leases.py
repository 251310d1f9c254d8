"""Leases of the outbox's shards: who publishes which, until when, under which epoch.

Guarantees: at most one owner a shard by the database's clock; every change of owner raises the
epoch, so what an earlier owner still wants to do under its old epoch is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.db.outbox import SHARDS
from app.db.statements import statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.db.engine import Database, Transaction


class Lease(NamedTuple):
    """One shard's lease; `live` is false once it has expired or was given back."""

    shard: int
    owner: str
    epoch: int
    live: bool


_CREATE = statement(
    "insert into ops.relay_lease (shard, expires_at)"
    " select shard, now() from generate_series(0, :shards::int - 1) shard on conflict do nothing"
)
_JOIN = statement(
    "insert into ops.relay_member (worker_id, expires_at)"
    " values (:owner, clock_timestamp() + make_interval(secs => :ttl_s))"
    " on conflict (worker_id) do update set expires_at = excluded.expires_at"
)
_FORGET = statement(
    "delete from ops.relay_member where expires_at < clock_timestamp() - interval '1 hour'"
)
_MEMBERS = statement("select count(*) from ops.relay_member where expires_at > clock_timestamp()")
_LOCK = statement(
    "select shard, owner, epoch, expires_at > clock_timestamp() from ops.relay_lease"
    " where shard < :shards order by shard for update"
)
_HOLD = statement(
    "update ops.relay_lease l set owner = :owner, epoch = mine.epoch,"
    " expires_at = clock_timestamp() + make_interval(secs => :ttl_s)"
    " from unnest(:shards::smallint[], :epochs::bigint[]) as mine(shard, epoch)"
    " where l.shard = mine.shard"
)
_RELEASE = statement(
    "update ops.relay_lease set owner = '', expires_at = clock_timestamp()"
    " where owner = :owner and shard = any(:shards::smallint[])"
)
_LEAVE = statement("delete from ops.relay_member where worker_id = :owner")
# The share lock makes a takeover wait for this transaction, or this transaction see the takeover.
_DELETE = statement(
    """
    with held as (
        select l.shard from ops.relay_lease l
          join unnest(:shards::smallint[], :epochs::bigint[]) as mine(shard, epoch)
            on l.shard = mine.shard and l.epoch = mine.epoch
         where l.owner = :owner
           for share of l
    )
    delete from ops.outbox o using held where o.shard = held.shard and o.id = any(:ids::bigint[])
    """
)


async def create(db: Database) -> None:
    """Make sure that every shard has its row; harmless to repeat."""
    await db.execute(_CREATE, shards=SHARDS)


async def lock(tx: Transaction, owner: str, ttl_s: float) -> tuple[list[Lease], int]:
    """Say that `owner` lives for `ttl_s`, lock all leases; return them and how many owners live."""
    tx.later(_JOIN, owner=owner, ttl_s=ttl_s)
    tx.later(_FORGET)
    members = (await tx.fetch(_MEMBERS))[0][0]
    rows = await tx.fetch(_LOCK, shards=SHARDS)
    return [Lease(*row) for row in rows], members


def hold(tx: Transaction, owner: str, epochs: Mapping[int, int], ttl_s: float) -> None:
    """Queue: `owner` holds these locked shards under these epochs for `ttl_s` from now."""
    tx.later(_HOLD, owner=owner, shards=list(epochs), epochs=list(epochs.values()), ttl_s=ttl_s)


def release(tx: Transaction, owner: str, shards: Sequence[int]) -> None:
    """Queue: `owner` gives these shards back; the next owner need not wait for the expiry."""
    tx.later(_RELEASE, owner=owner, shards=list(shards))


def leave(tx: Transaction, owner: str) -> None:
    """Queue: `owner` gives back all its shards and is no longer counted."""
    tx.later(_RELEASE, owner=owner, shards=list(range(SHARDS)))
    tx.later(_LEAVE, owner=owner)


async def delete_published(
    tx: Transaction, owner: str, epochs: Mapping[int, int], ids: Sequence[int]
) -> int:
    """Delete published rows of shards that `owner` still holds under `epochs`; return how many."""
    return await tx.execute(
        _DELETE, owner=owner, shards=list(epochs), epochs=list(epochs.values()), ids=list(ids)
    )
