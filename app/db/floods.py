"""Consumers that were stopped by a flood of dead letters (ops.flood): one row per consumer.

A row without a release stops every worker of its consumer, those that start later too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.db.statements import statement

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.engine import Database, Transaction


class Flood(NamedTuple):
    """The last flood of a consumer; it is stopped while `released_at` is None."""

    consumer: str
    dead_letters: int
    detail: str
    stopped_at: datetime
    released_at: datetime | None
    released_by: str


_COLUMNS = "consumer, dead_letters, detail, stopped_at, released_at, released_by"
_FIND = statement(
    f"select {_COLUMNS} from ops.flood where consumer = :consumer and released_at is null"
)
_OPEN = statement(
    """
    insert into ops.flood (consumer, dead_letters, detail, stopped_at)
    values (:consumer, :dead_letters, :detail, now())
    on conflict (consumer) do update
       set dead_letters = excluded.dead_letters, detail = excluded.detail,
           stopped_at = excluded.stopped_at, released_at = null, released_by = ''
     where flood.released_at is not null
    """
)
_RELEASE = statement(
    "update ops.flood set released_at = now(), released_by = :released_by"
    f" where consumer = :consumer and released_at is null returning {_COLUMNS}"
)
_ALL = statement(
    f"select {_COLUMNS} from ops.flood"
    " order by (released_at is not null), stopped_at desc, consumer limit :limit"
)


async def find(db: Database, consumer: str) -> Flood | None:
    """Return the flood for which `consumer` is stopped, None when it is not."""
    rows = await db.fetch(_FIND, consumer=consumer)
    return Flood(*rows[0]) if rows else None


async def open_flood(db: Database, consumer: str, dead_letters: int, detail: str) -> None:
    """Stop `consumer`; the row of one that is stopped already stays as it is."""
    await db.execute(_OPEN, consumer=consumer, dead_letters=dead_letters, detail=detail)


async def release(tx: Transaction, consumer: str, *, released_by: str) -> Flood | None:
    """Let `consumer` go on; None when it is not stopped."""
    rows = await tx.fetch(_RELEASE, consumer=consumer, released_by=released_by)
    return Flood(*rows[0]) if rows else None


async def recent(db: Database, limit: int) -> list[Flood]:
    """Return at most `limit` floods, those that still stop their consumer first, newest first."""
    return [Flood(*row) for row in await db.fetch(_ALL, limit=limit)]
