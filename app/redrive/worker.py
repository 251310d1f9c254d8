"""The loop that looks for jobs and does them, through outages of broker and database.

Guarantees: a job that a dead worker left is taken over once its lease has run out; outages are
waited for up to `outage_budget_s`, then `run` raises OutageBudgetSpent.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from aiokafka.errors import KafkaError

from app.db import dead_letter_jobs as jobs
from app.errors import DatabaseOutage, OutageBudgetSpent, TransientDatabase
from app.observability.logging import get_log
from app.redrive.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.clock import Clock
    from app.db.dead_letter_jobs import Job
    from app.db.engine import Database
    from app.redrive.sending import Outlet
    from app.settings import Settings

log = get_log(__name__)
T = TypeVar("T")

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0


class RedriveWorker:
    """One process's work on jobs; any number of them share the jobs."""

    def __init__(self, settings: Settings, db: Database, outlet: Outlet, clock: Clock) -> None:
        self._settings = settings
        self._db = db
        self._outlet = outlet
        self._clock = clock
        self._owner = f"{settings.worker_id}.{settings.incarnation}"
        self._stopping = asyncio.Event()
        self._runner = Runner(
            settings, db, outlet, clock, self._owner, self._patiently, self._sleep
        )

    async def run(self) -> None:
        """Work until `stop` or cancellation. Raises OutageBudgetSpent."""
        try:
            while not self._stopping.is_set():
                job = await self._patiently("look", self._take)
                if job is not None:
                    await self._runner.run(job)
                else:
                    await self._sleep(self._settings.dlq_poll_ms / 1000)
        finally:
            await self._outlet.close()

    def stop(self) -> None:
        """Ask `run` to end after the letters under way."""
        self._stopping.set()

    async def _take(self) -> Job | None:
        return await jobs.take(
            self._db, self._owner, self._settings.dlq_lease_ttl_s, self._clock.now()
        )

    async def _sleep(self, duration_s: float) -> bool:
        """Sleep, shorter when asked to stop; whether to go on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self._stopping.wait()
        return not self._stopping.is_set()

    async def _patiently(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await `attempt()` until neither PostgreSQL nor the way to the broker is at fault."""
        began_s, tries = monotonic(), 0
        while True:
            try:
                return await attempt()
            except (TransientDatabase, DatabaseOutage, KafkaError) as error:
                why: Exception = error
            if monotonic() - began_s > self._settings.outage_budget_s:
                raise OutageBudgetSpent(f"redrive {what}: {why}") from why
            if tries == 0:
                log.warning("redrive.waiting", what=what, reason=f"{type(why).__name__}: {why}")
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(tries, 16))
            await asyncio.sleep(backoff_s * (0.5 + random.random() / 2))
            tries += 1
