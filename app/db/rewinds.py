"""Roles that are to read their topics again (ops.rewind): asked for once, carried out once.

A role has at most one queued rewind. Its positions are written down before they are set: whoever
carries it out after a crash sets the same ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from app.db.statements import statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Database, Transaction

QUEUED, DONE, FAILED = "QUEUED", "DONE", "FAILED"


class Position(NamedTuple):
    """Where the group stood in a partition, and where it was set to; never beyond `before`."""

    topic: str
    partition: int
    before: int
    after: int


class Rewind(NamedTuple):
    """One rewind. `positions` is None until they were looked up, `error` says why it FAILED."""

    id: str
    role: str
    since: datetime
    status: str
    positions: Sequence[Position] | None
    requested_by: str
    reason: str
    error: str
    created_at: datetime
    ended_at: datetime | None


_COLUMNS = "id, role, since, status, positions, requested_by, reason, error, created_at, ended_at"
_QUEUED = statement(f"select {_COLUMNS} from ops.rewind where role = :role and status = 'QUEUED'")
_INSERT = statement(
    """
    insert into ops.rewind (id, role, since, status, requested_by, reason, created_at)
    values (:id, :role, :since, 'QUEUED', :requested_by, :reason, now())
    on conflict (role) where status = 'QUEUED' do nothing
    returning id
    """
)
_PLAN = statement(
    "update ops.rewind set positions = coalesce(positions, :positions::jsonb)"
    " where id = :id and status = 'QUEUED' returning positions"
)
_END = statement(
    "update ops.rewind set status = :status, error = :error, ended_at = now()"
    " where id = :id and status = 'QUEUED'"
)
_GET = statement(f"select {_COLUMNS} from ops.rewind where id = :id")
_RECENT = statement(
    f"select {_COLUMNS} from ops.rewind order by created_at desc, id desc limit :limit"
)


async def queue(
    tx: Transaction, rewind_id: str, role: str, since: datetime, *, by: str, reason: str = ""
) -> bool:
    """Ask `role` to read again from `since` on; False when it is asked already."""
    rows = await tx.fetch(
        _INSERT, id=rewind_id, role=role, since=since, requested_by=by, reason=reason
    )
    return bool(rows)


async def queued(db: Database, role: str) -> Rewind | None:
    """Return the rewind that `role` still has to carry out."""
    rows = await db.fetch(_QUEUED, role=role)
    return _rewind(rows[0]) if rows else None


async def plan(
    db: Database, rewind_id: str, positions: Sequence[Position]
) -> Sequence[Position] | None:
    """Write down where to go; return what was written down first, None when it ended meanwhile."""
    rows = await db.fetch(_PLAN, id=rewind_id, positions=json.dumps(positions))
    return _positions(rows[0][0]) if rows else None


async def end(db: Database, rewind_id: str, status: str, error: str = "") -> None:
    """Say how it ended; the first to say so counts."""
    await db.execute(_END, id=rewind_id, status=status, error=error)


async def get(db: Database, rewind_id: str) -> Rewind | None:
    """Return one rewind or None."""
    rows = await db.fetch(_GET, id=rewind_id)
    return _rewind(rows[0]) if rows else None


async def recent(db: Database, limit: int) -> list[Rewind]:
    """Return at most `limit` rewinds, newest first."""
    return [_rewind(row) for row in await db.fetch(_RECENT, limit=limit)]


def _rewind(row: tuple[object, ...]) -> Rewind:
    found = Rewind._make(row)
    return found._replace(positions=_positions(found.positions))


def _positions(listed: object) -> Sequence[Position] | None:
    if listed is None:
        return None
    assert isinstance(listed, list)
    return [Position(*one) for one in listed]
