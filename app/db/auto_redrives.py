"""Which dead letters a platform may send back by itself, and the job that does it.

Guarantees: one asker at a time; no second job while one of its own is under way; a command is sent
back at most `redrives_max` times by this way, however often it dies again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app import ids
from app.db import dead_letter_jobs as jobs
from app.db.dead_letter_jobs import Request, Work
from app.db.statements import statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Database

ACTOR: Final = "auto-redrive"
NAMED_MAX: Final = 20
"""Groups that the audit log names for one job."""
_LOCK_KEY: Final = 0x72656472697665  # "redrive"

_LOCK = statement("select pg_try_advisory_xact_lock(:key)")
_UNDER_WAY = statement(
    "select count(*) from ops.dead_letter_job"
    " where requested_by = :actor and status in ('QUEUED', 'RUNNING')"
)
# First who is spent, then the oldest: letters that stay would otherwise keep the newer ones out.
_LETTERS = statement(
    """
    with spent as (
        select event_id from ops.dead_letter
         where consumer = :consumer and settled_by = :actor and status = 'REDRIVEN'
         group by event_id having count(*) >= :redrives_max)
    select id::text, fingerprint from ops.dead_letter
     where status = 'OPEN' and consumer = :consumer and event_id <> ''
       and error_class = any(:error_classes ::text[])
       and event_id not in (select event_id from spent)
     order by at, id limit :letters_max
    """
)


async def queue(
    db: Database,
    consumer: str,
    error_classes: Sequence[str],
    *,
    reason: str,
    redrives_max: int,
    letters_max: int,
    rate_per_s: int,
    now: datetime,
) -> int:
    """Ask that the oldest open letters of these causes that may be sent back are; return how many.

    0 when there are none, or when another asks or has asked already. One job, so that the rate
    bounds all of them; the audit log names the groups (fingerprints) that they belong to.
    """
    async with db.transaction() as tx:
        if not (await tx.fetch(_LOCK, key=_LOCK_KEY))[0][0]:
            return 0
        if (await tx.fetch(_UNDER_WAY, actor=ACTOR))[0][0]:
            return 0
        found: list[tuple[Any, ...]] = await tx.fetch(
            _LETTERS,
            actor=ACTOR,
            consumer=consumer,
            error_classes=list(error_classes),
            letters_max=letters_max,
            redrives_max=redrives_max,
        )
        if not found:
            return 0
        work = Work(ids=tuple(row[0] for row in found))
        jobs.create(
            tx,
            ids.uuid5(found[0][0], f"{ACTOR}:{now.timestamp()}"),
            "redrive",
            work,
            Request(ACTOR, reason),
            total=len(found),
            rate_per_s=rate_per_s,
            now=now,
            detail={"fingerprints": sorted({row[1] for row in found})[:NAMED_MAX]},
        )
        await tx.commit()
    return len(found)
