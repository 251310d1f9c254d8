"""The redrive worker as a service of role dlq."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import mode

from app.delivery.exits import Reason, end_process
from app.delivery.outlet import ProducerOutlet
from app.errors import OutageBudgetSpent
from app.loops import keep_on
from app.redrive.retention import forget
from app.redrive.worker import RedriveWorker

if TYPE_CHECKING:
    from app.delivery.app import App


FORGET_EVERY_S = 60.0


class RedriveService(mode.Service):
    """Runs one RedriveWorker between Faust's start and stop; ends the process when it fails.

    Beside it, what is past its retention is deleted.
    """

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._worker: RedriveWorker | None = None
        self._task: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Start looking for jobs; broker and database were there when the worker started."""
        app = self._app
        outlet = ProducerOutlet(app.settings, f"{app.settings.worker_id}-redrive")
        self._worker = RedriveWorker(app.settings, app.db, outlet, app.clock)
        self._task = asyncio.create_task(self._run(self._worker), name="redrive")
        self.add_future(keep_on("retention of dead letters", self._forget, FORGET_EVERY_S))

    async def on_stop(self) -> None:
        """Finish the letters under way and give the job back, within the drain grace."""
        if self._worker is None or self._task is None:
            return
        self._worker.stop()
        _, late = await asyncio.wait([self._task], timeout=self._app.settings.drain_grace_s)
        if late:
            end_process(Reason.DRAIN, "redrive: a batch outlived the drain grace")

    async def _run(self, worker: RedriveWorker) -> None:
        try:
            await worker.run()
        except OutageBudgetSpent as error:
            end_process(Reason.OUTAGE, str(error))
        except Exception as error:
            end_process(Reason.FAILURE, f"redrive: {type(error).__name__}: {error}")

    async def _forget(self) -> None:
        await forget(self._app.db, self._app.settings, self._app.clock.now())
