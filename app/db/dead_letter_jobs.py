"""Jobs on dead letters: what an operator asked for, who works on it, how far it is.

Guarantees: one worker at a time holds a job, by the database's clock; whoever lost the lease can
write nothing to it any more. A job is asked for and recorded in the audit log in one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from app.db import audit_log
from app.db.dead_letter_claims import Position
from app.db.dead_letter_selection import Selection
from app.db.statements import statement
from app.db.texts import storable, storable_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from app.db.cursor import Cursor
    from app.db.engine import Database, Transaction

ENDED: Final = ("DONE", "CANCELLED", "FAILED")


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job is to do, as it is stored: a selection of letters, and what its kind needs.

    `value` is the new content of the one letter of an edit; `ends` are the offsets per partition
    below which a purge deletes, `force` lets it delete open letters of running sagas.
    """

    ids: tuple[str, ...] | None = None
    topic: str = ""
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    fingerprint: str = ""
    value: str = ""
    ends: dict[int, int] = {}
    force: bool = False

    @property
    def selection(self) -> Selection:
        """The letters that are meant."""
        return Selection(
            self.ids,
            self.topic,
            self.partition,
            self.from_offset,
            self.to_offset,
            self.fingerprint,
        )


class Job(NamedTuple):
    """One job. `done` letters are settled, `refused` ones stay open; `tally` says why, by count."""

    id: str
    kind: str
    work: Work
    status: str
    rate_per_s: int
    total: int
    done: int
    refused: int
    tally: Mapping[str, int]
    checkpoint: Position
    cancel_requested: bool
    owner: str
    requested_by: str
    reason: str
    error: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


_COLUMNS = (
    "id, kind, selection, status, rate_per_s, total, done, refused, tally, checkpoint,"
    " cancel_requested, owner, requested_by, reason, error, created_at, started_at, ended_at"
)
_CREATE = statement(
    """
    insert into ops.dead_letter_job
           (id, kind, selection, rate_per_s, total, requested_by, reason, created_at)
    values (:id, :kind, :selection::jsonb, :rate_per_s, :total, :requested_by, :reason, :now)
    """
)
_GET = statement(f"select {_COLUMNS} from ops.dead_letter_job where id = :id")
_RECENT = statement(
    f"select {_COLUMNS} from ops.dead_letter_job"
    " where (created_at, id) < (coalesce(:at::timestamptz, 'infinity'),"
    " coalesce(:id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))"
    " order by created_at desc, id desc limit :limit"
)
# What a purge has begun to delete is gone: a job that stopped there would tell the wrong end.
_CANCEL = statement(
    "update ops.dead_letter_job set cancel_requested = true"
    " where id = :id and status in ('QUEUED', 'RUNNING')"
    " and (kind <> 'purge' or checkpoint is null)"
)
_TAKE = statement(
    f"""
    update ops.dead_letter_job
       set owner = :owner, status = 'RUNNING', started_at = coalesce(started_at, :now),
           lease_until = clock_timestamp() + make_interval(secs => :ttl_s)
     where id = (select id from ops.dead_letter_job
                  where status in ('QUEUED', 'RUNNING')
                    and (lease_until is null or lease_until < clock_timestamp())
                  order by created_at, id limit 1 for update skip locked)
    returning {_COLUMNS}
    """
)
_RENEW = statement(
    """
    update ops.dead_letter_job
       set lease_until = clock_timestamp() + make_interval(secs => :ttl_s)
     where id = :id and owner = :owner and status = 'RUNNING'
    returning cancel_requested, done, refused, tally, checkpoint
    """
)
_ADVANCE = statement(
    """
    update ops.dead_letter_job
       set done = :done, refused = :refused, tally = :tally::jsonb, checkpoint = :checkpoint::jsonb,
           total = greatest(total, :done + :refused)
     where id = :id
    """
)
_GIVE_BACK = statement(
    "update ops.dead_letter_job set lease_until = null, owner = ''"
    " where id = :id and owner = :owner and status = 'RUNNING'"
)
_FINISH = statement(
    "update ops.dead_letter_job set status = :status, error = :error, ended_at = :now, owner = '',"
    " lease_until = null where id = :id"
)
_FORGET = statement(
    """
    delete from ops.dead_letter_job where id = any(array(
        select id from ops.dead_letter_job
         where created_at < :before and ended_at < :before
           and status in ('DONE', 'CANCELLED', 'FAILED')
         order by created_at limit :limit for update skip locked))
    """
)


class State(NamedTuple):
    """How far a job is, read while its row is locked."""

    cancel_requested: bool
    done: int
    refused: int
    tally: Mapping[str, int]
    checkpoint: Position


class Request(NamedTuple):
    """Who asks for a job, why, and under which request."""

    actor: str
    reason: str = ""
    request_id: str = ""


def create(
    tx: Transaction,
    job_id: str,
    kind: str,
    work: Work,
    request: Request,
    *,
    total: int,
    rate_per_s: int,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Queue the rows of a new job and of its audit, which gets `detail` as well."""
    tx.later(
        _CREATE,
        id=job_id,
        kind=kind,
        selection=storable_json(work),
        rate_per_s=rate_per_s,
        total=total,
        requested_by=request.actor,
        reason=storable(request.reason),
        now=now,
    )
    said: dict[str, Any] = {
        "job": job_id,
        "letters": total,
        "ids": len(work.ids or ()),
        "force": work.force,
    }
    if work.fingerprint:
        said["fingerprint"] = work.fingerprint
    audit_log.record(
        tx,
        actor=request.actor,
        action=f"dead_letter.{kind}",
        target=work.topic or "all",
        reason=request.reason,
        detail={**said, **(detail or {})},
        request_id=request.request_id,
    )


async def get(db: Database, job_id: str) -> Job | None:
    """Return one job or None."""
    rows = await db.fetch(_GET, id=job_id)
    return _job(rows[0]) if rows else None


async def recent(db: Database, limit: int, after: Cursor | None = None) -> list[Job]:
    """Return at most `limit` jobs, newest first, those older than `after`."""
    at, job_id = after if after is not None else (None, None)
    return [_job(row) for row in await db.fetch(_RECENT, at=at, id=job_id, limit=limit)]


async def request_cancel(tx: Transaction, job_id: str, request: Request) -> bool:
    """Ask that a job stop after the batch under way.

    False when it has ended or never was, and for a purge that has begun to delete.
    """
    if not await tx.execute(_CANCEL, id=job_id):
        return False
    audit_log.record(
        tx,
        actor=request.actor,
        action="dead_letter.cancel",
        target=job_id,
        reason=request.reason,
        request_id=request.request_id,
    )
    return True


async def take(db: Database, owner: str, ttl_s: float, now: datetime) -> Job | None:
    """Take the oldest job that nobody works on, a dead worker's included; None when there is none.

    `owner` must be a name of this start of the worker alone.
    """
    rows = await db.fetch(_TAKE, owner=owner, ttl_s=ttl_s, now=now)
    return _job(rows[0]) if rows else None


async def renew(tx: Transaction, job_id: str, owner: str, ttl_s: float) -> State | None:
    """Lock the job for this transaction and renew its lease; None when it is not ours any more."""
    rows = await tx.fetch(_RENEW, id=job_id, owner=owner, ttl_s=ttl_s)
    if not rows:
        return None
    state = State._make(rows[0])
    return state._replace(checkpoint=_place(state.checkpoint))


def advance(tx: Transaction, job_id: str, state: State) -> None:
    """Queue how far the job is; for a transaction that has locked it by `renew`."""
    tx.later(
        _ADVANCE,
        id=job_id,
        done=state.done,
        refused=state.refused,
        tally=storable_json(state.tally),
        checkpoint=storable_json(state.checkpoint),
    )


async def give_back(db: Database, job_id: str, owner: str) -> None:
    """Let another worker go on with the job at once."""
    await db.execute(_GIVE_BACK, id=job_id, owner=owner)


def finish(tx: Transaction, job_id: str, status: str, now: datetime, error: str = "") -> None:
    """Queue the end of a job; for a transaction that has locked it by `renew`."""
    tx.later(_FINISH, id=job_id, status=status, error=storable(error)[:500], now=now)


async def forget(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete at most `limit` jobs that ended before `before`; return how many."""
    return await tx.execute(_FORGET, before=before, limit=limit)


def _job(row: Sequence[Any]) -> Job:
    job = Job._make(row)
    work = msgspec.convert(job.work, Work, strict=False)
    return job._replace(work=work, checkpoint=_place(job.checkpoint))


def _place(stored: Any) -> Position:
    return Position(*stored) if stored else Position()
