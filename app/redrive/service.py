"""The redrive worker as a service of role dlq."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery.outlet import ProducerOutlet
from app.loops import keep_on
from app.redrive.retention import forget
from app.redrive.worker import RedriveWorker
from app.work import WorkService

if TYPE_CHECKING:
    from app.delivery.app import App


FORGET_EVERY_S = 60.0


class RedriveService(WorkService):
    """Runs one RedriveWorker; beside it, what is past its retention is deleted."""

    def __init__(self, app: App) -> None:
        super().__init__(app, "redrive", _worker)

    async def on_start(self) -> None:
        """Start looking for jobs, and for what to forget."""
        await super().on_start()
        self.add_future(keep_on("retention of dead letters", self._forget, FORGET_EVERY_S))

    async def _forget(self) -> None:
        await forget(self._app.db, self._app.settings, self._app.clock.now())


def _worker(app: App) -> RedriveWorker:
    outlet = ProducerOutlet(app.settings, f"{app.settings.worker_id}-redrive")
    return RedriveWorker(app.settings, app.db, outlet, app.clock)
