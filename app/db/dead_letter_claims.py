"""Dead letters in the hand of a job: claimed, settled, given back, emptied by a purge.

Guarantees: a letter leaves OPEN by one guarded update, so one job takes it, and only that job
settles it. Letters are taken in the order of topic, partition and offset, batch by batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.db.dead_letter_selection import SELECTED, Selection
from app.db.deadletters import COLUMNS, DeadLetter, from_row
from app.db.statements import statement
from app.db.texts import storable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Transaction


class Position(NamedTuple):
    """A place in the order in which jobs walk; the letter there is done with."""

    topic: str = ""
    partition: int = -1
    offset: int = -1


_D_COLUMNS = ", ".join(f"d.{name.strip()}" for name in COLUMNS.split(","))
# Two claimers meet in the same order, so they wait for each other and never deadlock; who waited
# sees that the letter is not OPEN any more.
_CLAIM = statement(
    f"""
    with picked as (
        select id from ops.dead_letter
         where {SELECTED} and status = 'OPEN' and at <= :until
           and (topic, partition, "offset")
               > (:after_topic::text, :after_partition::int, :after_offset::bigint)
         order by topic, partition, "offset" limit :limit
           for update)
    update ops.dead_letter d set status = 'CLAIMED', job_id = :job_id
      from picked where d.id = picked.id
    returning {_D_COLUMNS}
    """
)
_CLAIMED = statement(
    f"select {COLUMNS} from ops.dead_letter where job_id = :job_id and status = 'CLAIMED'"
    ' order by topic, partition, "offset"'
)
_SETTLE = statement(
    """
    update ops.dead_letter d
       set status = settled.status, settled_by = :actor, settle_reason = settled.reason,
           settled_at = :now, job_id = case settled.status when 'OPEN' then null else d.job_id end
      from unnest(:ids::uuid[], :statuses::text[], :reasons::text[])
        as settled(id, status, reason)
     where d.id = settled.id and d.status = 'CLAIMED' and d.job_id = :job_id
    """
)
_RELEASE = statement(
    "update ops.dead_letter set status = 'OPEN', job_id = null"
    " where job_id = :job_id and status = 'CLAIMED'"
)
# What is being sent back keeps its bytes: its job has to repeat it when it dies.
_EMPTY = statement(
    """
    with picked as (
        select id from ops.dead_letter
         where topic = :topic and partition = :partition and "offset" < :before
           and "offset" > :after and status <> 'CLAIMED'
         order by "offset" limit :limit for update)
    update ops.dead_letter d
       set job_id = case when d.status = 'OPEN' then :job_id::uuid else d.job_id end,
           settled_by = case when d.status = 'OPEN' then :actor else d.settled_by end,
           settle_reason = case when d.status = 'OPEN' then :reason else d.settle_reason end,
           settled_at = case when d.status = 'OPEN' then :now else d.settled_at end,
           status = case when d.status = 'OPEN' then 'PURGED' else d.status end,
           headers = '[]', raw_headers = '', value = null,
           key = case when encode(d.key, 'escape') ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                      then d.key end
      from picked where d.id = picked.id
    returning d."offset", d.status = 'PURGED' and d.job_id = :job_id::uuid
    """
)


async def claim(
    tx: Transaction,
    job_id: str,
    selection: Selection,
    after: Position,
    until: datetime,
    limit: int,
) -> list[DeadLetter]:
    """Take the next open letters of a selection for a job, those indexed not after `until`.

    A letter that another job takes at the same time is waited for and then left out.
    """
    rows = await tx.fetch(
        _CLAIM,
        **selection.params(),
        job_id=job_id,
        after_topic=after.topic,
        after_partition=after.partition,
        after_offset=after.offset,
        until=until,
        limit=limit,
    )
    letters = [from_row(row) for row in rows]
    return sorted(letters, key=lambda one: (one.topic, one.partition, one.offset))


async def claimed(tx: Transaction, job_id: str) -> list[DeadLetter]:
    """Return what a job has taken and not settled: its worker died in between."""
    return [from_row(row) for row in await tx.fetch(_CLAIMED, job_id=job_id)]


async def settle(
    tx: Transaction,
    job_id: str,
    outcomes: Sequence[tuple[str, str, str]],
    actor: str,
    now: datetime,
) -> int:
    """Settle claimed letters by (id, status, reason); OPEN gives one back. Return how many were
    still the job's."""
    return await tx.execute(
        _SETTLE,
        job_id=job_id,
        ids=[one[0] for one in outcomes],
        statuses=[one[1] for one in outcomes],
        reasons=[storable(one[2])[:500] for one in outcomes],
        actor=storable(actor),
        now=now,
    )


def release(tx: Transaction, job_id: str) -> None:
    """Queue: what the job has taken and not settled is open again.

    It may have been sent: sending it again sends the same record, which has one effect.
    """
    tx.later(_RELEASE, job_id=job_id)


async def empty(
    tx: Transaction,
    job_id: str,
    place: Position,
    before: int,
    *,
    actor: str,
    reason: str,
    now: datetime,
    limit: int,
) -> tuple[int, int, int]:
    """Drop value and headers, and a key that is no id, of letters after `place` and below offset
    `before` of its partition; open ones become PURGED.

    Return how many were emptied, how many of them became PURGED, and the last offset.
    """
    rows = await tx.fetch(
        _EMPTY,
        topic=place.topic,
        partition=place.partition,
        after=place.offset,
        before=before,
        job_id=job_id,
        actor=storable(actor),
        reason=storable(reason),
        now=now,
        limit=limit,
    )
    last = max((row[0] for row in rows), default=place.offset)
    return len(rows), sum(row[1] for row in rows), last
