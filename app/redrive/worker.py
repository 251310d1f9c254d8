"""The loop that looks for jobs and does them, through outages of broker and database.

Guarantees: a job that a dead worker left is taken over once its lease has run out; outages are
waited for up to `outage_budget_s`, then `run` raises OutageBudgetSpent.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from app.db import dead_letter_jobs as jobs
from app.outages import Outages, Stopped
from app.redrive.runner import Runner

if TYPE_CHECKING:
    from app.clock import Clock
    from app.db.dead_letter_jobs import Job
    from app.db.engine import Database
    from app.redrive.sending import Outlet
    from app.settings import Settings


class RedriveWorker:
    """One process's work on jobs; any number of them share the jobs."""

    def __init__(self, settings: Settings, db: Database, outlet: Outlet, clock: Clock) -> None:
        self._settings = settings
        self._db = db
        self._outlet = outlet
        self._clock = clock
        self._owner = f"{settings.worker_id}.{settings.incarnation}"
        self._outages = Outages("redrive", settings.outage_budget_s)
        self._runner = Runner(
            settings, db, outlet, clock, self._owner, self._outages.outlast, self._outages.sleep
        )

    async def run(self) -> None:
        """Work until `stop` or cancellation; a job that an outage holds up by then is left to its
        lease. Raises OutageBudgetSpent.
        """
        try:
            with contextlib.suppress(Stopped):
                await self._look_for_jobs()
        finally:
            await self._outlet.close()

    async def _look_for_jobs(self) -> None:
        while not self._outages.stopping:
            job = await self._outages.outlast("look", self._take)
            if job is not None:
                await self._runner.run(job)
            else:
                await self._outages.sleep(self._settings.dlq_poll_ms / 1000)

    def stop(self) -> None:
        """Ask `run` to end after the letters under way."""
        self._outages.stop()

    async def _take(self) -> Job | None:
        return await jobs.take(
            self._db, self._owner, self._settings.dlq_lease_ttl_s, self._clock.now()
        )
