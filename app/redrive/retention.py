"""What the index of dead letters forgets: settled letters and ended jobs, after a while."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from app.db import dead_letter_jobs as jobs
from app.db import deadletters
from app.observability.logging import get_log

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.engine import Database
    from app.settings import Settings

log = get_log(__name__)


async def forget(db: Database, settings: Settings, now: datetime) -> None:
    """Delete what was settled or has ended more than `dlq_retention_days` ago, batch by batch.

    Nothing when that is 0. An open letter and a job under way are kept, however old they are.
    """
    if not settings.dlq_retention_days:
        return
    before = now - timedelta(days=settings.dlq_retention_days)
    limit = settings.dlq_batch_max
    letters = ended = limit
    while max(letters, ended) == limit:
        async with db.transaction() as tx:
            letters = await deadletters.forget(tx, before, limit)
            ended = await jobs.forget(tx, before, limit)
        if letters or ended:
            log.info("redrive.forgotten", letters=letters, jobs=ended)
