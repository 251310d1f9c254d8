"""What the metrics of a lab say of GameDays and of faults from outside.

Beside the census in role `slo`, because a GameDay runs in processes that nobody scrapes: reads the
open run's phase from PostgreSQL and the leases of faults from the lab's files, once a second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import mode

from app.db import gamedays
from app.db.engine import Database
from app.errors import DatabaseOutage, TransientDatabase
from app.observability import metrics
from app.observability.families import one_of
from app.observability.logging import get_log
from chaos.nemesis import lease

if TYPE_CHECKING:
    from app.delivery import App

LOOK_S = 1.0
log = get_log(__name__)


class GameDayGauges(mode.Service):
    """Looks, and shows, once a second between the worker's start and stop."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._leases = Path(app.settings.lab_dir) / lease.DIRECTORY
        self._shown: Counter[str] = Counter()
        self._blind = False
        self._task: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._forever(), name="gameday gauges")

    async def on_stop(self) -> None:
        """Look no more; what was shown goes away."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.forget()

    async def _forever(self) -> None:
        settings = self._app.settings.model_copy(update={"db_pool_max": 1})
        db = await Database.open(
            settings, application_name=f"{settings.worker_id}-watch", observed=False
        )
        try:
            while True:
                await self.look(db)
                await asyncio.sleep(LOOK_S)
        finally:
            await db.close()

    async def look(self, db: Database) -> None:
        """One look. When it fails, whyever, nothing is known: that is said once, and nothing shown
        until a look succeeds again.
        """
        try:
            self.look_at_faults()
            await self.look_at_phase(db)
        except Exception as error:
            self.forget()
            if not self._blind:
                log.error("gameday.watch_blind", error=error)
            self._blind = True
        else:
            self._blind = False

    async def look_at_phase(self, db: Database) -> None:
        """Show the open run's phase; while PostgreSQL is away it is not known."""
        try:
            phase = await gamedays.phase(db)
        except (DatabaseOutage, TransientDatabase) as error:
            metrics.GAMEDAY_PHASE.forget()
            log.debug("gameday.phase_unread", reason=str(error))
            return
        one_of(metrics.GAMEDAY_PHASE, (), metrics.GAMEDAY_PHASES, slug(phase))

    def look_at_faults(self) -> None:
        """Show what the leases say."""
        self.show_faults(Counter(one.deed.fault for one in lease.found(self._leases)))

    def show_faults(self, active: Counter[str]) -> None:
        """The faults of outside that are in force now; chaos rules count beside them."""
        for fault in self._shown.keys() | active.keys():
            metrics.FAULT_ACTIVE.child(fault).inc(active[fault] - self._shown[fault])
        self._shown = active

    def forget(self) -> None:
        """Show nothing of what was seen; chaos rules in this worker stay."""
        self.show_faults(Counter())
        for sample in list(metrics.FAULT_ACTIVE.samples()):
            if not sample.value:
                metrics.FAULT_ACTIVE.forget(sample.labels["fault"])
        metrics.GAMEDAY_PHASE.forget()


def slug(phase: str) -> str:
    """A phase's name as a label value; empty while no GameDay goes on."""
    return phase.replace(" ", "_").replace("-", "_")
