"""GameDay runs: queued, claimed, told about, ended; at most one is open at a time.

Guarantees: a run is queued or begun only while no other one is open, whoever asks at the same time;
a run whose owner has not renewed its lease is ended as inconclusive by the next one who looks and
knows that no GameDay goes on: a lease alone also runs out while PostgreSQL is frozen or away, which
is what GameDays do to it. The statements are also used by whoever runs a GameDay, on a connection
without an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.cursor import NEWEST, Cursor
from app.db.statements import statement

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from app.db.engine import Database, Transaction

LEASE_S = 15.0
CLAIM_S = 120.0
"""How long whoever claimed a run may take until its process renews the lease."""
OPEN_LOCK = 0x67616D65
"""The advisory lock under which a run is opened."""


class RunRow(NamedTuple):
    """One run without its documents."""

    id: str
    experiment: str
    title: str
    options: dict[str, Any]
    status: str
    verdict: str
    phase: str
    progress: dict[str, Any] | None
    abort_requested: bool
    owner: str
    requested_by: str
    error: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


_COLUMNS = (
    "id, experiment, title, options, status, verdict, phase, progress, abort_requested, owner,"
    " requested_by, error, created_at, started_at, ended_at"
)
LOCK = statement("select pg_advisory_xact_lock(:lock)")
LAPSED = statement(
    "select id from ops.gameday_run where status = 'RUNNING' and lease_until < now() limit 1"
)
EXPIRE = statement(
    "update ops.gameday_run set status = 'ENDED', verdict = 'inconclusive', ended_at = now(),"
    " error = 'its process ended without a verdict; what was broken is whole again'"
    " where status = 'RUNNING' and lease_until < now() returning id"
)
OPEN = statement("select id from ops.gameday_run where status <> 'ENDED' limit 1")
QUEUE = statement(
    "insert into ops.gameday_run (id, experiment, title, options, requested_by, created_at)"
    " values (:id, :experiment, :title, :options::jsonb, :requested_by, now())"
)
CLAIM = statement(
    "update ops.gameday_run set status = 'RUNNING', owner = :owner,"
    " started_at = coalesce(started_at, now()),"
    " lease_until = now() + make_interval(secs => :lease_s)"
    " where id = (select id from ops.gameday_run where status = 'QUEUED' order by created_at"
    "  limit 1 for update skip locked) returning id, experiment, options"
)
START = statement(
    "update ops.gameday_run set status = 'RUNNING', owner = :owner,"
    " started_at = coalesce(started_at, now()),"
    " lease_until = now() + make_interval(secs => :lease_s) where id = :id and status <> 'ENDED'"
)
TELL = statement(
    "update ops.gameday_run set phase = :phase, progress = :progress::jsonb,"
    " lease_until = now() + make_interval(secs => :lease_s)"
    " where id = :id returning abort_requested"
)
END = statement(
    "update ops.gameday_run set status = 'ENDED', verdict = :verdict, error = :error, phase = '',"
    " journal = :journal::jsonb, report = :report, ended_at = now(), lease_until = null"
    " where id = :id"
)
LOST = statement(
    "update ops.gameday_run set status = 'ENDED', verdict = 'inconclusive', error = :error,"
    " ended_at = now(), lease_until = null where id = :id and status <> 'ENDED'"
)
ABORT = statement(
    "update ops.gameday_run set abort_requested = true,"
    " ended_at = case when status = 'QUEUED' then now() else ended_at end,"
    " verdict = case when status = 'QUEUED' then 'aborted' else verdict end,"
    " error = case when status = 'QUEUED' then 'it was aborted before it began' else error end,"
    " status = case when status = 'QUEUED' then 'ENDED' else status end"
    " where id = :id and status <> 'ENDED' returning id"
)
LIST = statement(
    f"select {_COLUMNS} from ops.gameday_run"
    " where (created_at, id) < (:before_at::timestamptz, :before_id::uuid)"
    " order by created_at desc, id desc limit :limit"
)
SHOW = statement(f"select {_COLUMNS} from ops.gameday_run where id = :id")
CURRENT = statement(f"select {_COLUMNS} from ops.gameday_run where status <> 'ENDED' limit 1")
PHASE = statement(
    "select phase from ops.gameday_run where status = 'RUNNING' and lease_until >= now() limit 1"
)
JOURNAL = statement("select journal from ops.gameday_run where id = :id")
REPORT = statement("select report from ops.gameday_run where id = :id")


async def expire(db: Database, going_on: Callable[[], bool]) -> None:
    """End a run whose owner is gone: its lease is over, and by `going_on` no GameDay goes on."""
    if await db.fetch(LAPSED) and not going_on():
        await db.fetch(EXPIRE)


async def queue(
    tx: Transaction, run_id: str, experiment: str, title: str, options: str, requested_by: str
) -> bool:
    """Queue a run unless one is open; `options` is JSON. True when it was queued."""
    await tx.fetch(LOCK, lock=OPEN_LOCK)
    if await tx.fetch(OPEN):
        return False
    tx.later(
        QUEUE,
        id=run_id,
        experiment=experiment,
        title=title,
        options=options,
        requested_by=requested_by,
    )
    return True


async def claim(db: Database, owner: str) -> tuple[str, str, dict[str, Any]] | None:
    """Take the oldest queued run: id, experiment, options; None when there is none."""
    rows = await db.fetch(CLAIM, owner=owner, lease_s=CLAIM_S)
    return (str(rows[0][0]), rows[0][1], rows[0][2]) if rows else None


async def lost(db: Database, run_id: str, error: str) -> None:
    """End a run whose process is gone; one that has a verdict keeps it."""
    await db.execute(LOST, id=run_id, error=error)


async def abort(tx: Transaction, run_id: str) -> bool:
    """Ask for the end of an open run; a queued one ends at once. False when it is not open."""
    return bool(await tx.fetch(ABORT, id=run_id))


async def recent(db: Database, limit: int, before: Cursor = NEWEST) -> list[RunRow]:
    """Runs, newest first, older than `before`."""
    rows = await db.fetch(LIST, limit=limit, before_at=before.at, before_id=before.id)
    return [run_row(row) for row in rows]


async def show(db: Database, run_id: str) -> RunRow | None:
    """One run."""
    rows = await db.fetch(SHOW, id=run_id)
    return run_row(rows[0]) if rows else None


async def current(db: Database) -> RunRow | None:
    """The open run."""
    rows = await db.fetch(CURRENT)
    return run_row(rows[0]) if rows else None


async def phase(db: Database) -> str:
    """The phase of the open run; empty while there is none, or it has not begun."""
    rows = await db.fetch(PHASE)
    return str(rows[0][0]) if rows else ""


async def journal(db: Database, run_id: str) -> dict[str, Any] | None:
    """The journal of a run that has ended."""
    rows = await db.fetch(JOURNAL, id=run_id)
    found: dict[str, Any] | None = rows[0][0] if rows else None
    return found


async def report(db: Database, run_id: str) -> bytes | None:
    """The HTML report of a run that has ended."""
    rows = await db.fetch(REPORT, id=run_id)
    return bytes(rows[0][0]) if rows and rows[0][0] is not None else None


def run_row(row: tuple[Any, ...]) -> RunRow:
    """The row as text and plain data."""
    return RunRow(str(row[0]), *row[1:])
