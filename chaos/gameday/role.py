"""Role `gameday`: takes queued GameDays and has each executed by a child process.

Guarantees: one at a time; a run whose process ended without a verdict is ended as inconclusive;
a worker that stops, or is killed, takes its child along, and the guardian ends what that one had
broken. A stop in good order aborts the GameDay and waits for its verdict within the drain grace.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import mode

from app.db import gamedays
from app.errors import DatabaseOutage, TransientDatabase
from app.observability.logging import get_log
from chaos.gameday import lock
from chaos.lab.plan import LabFiles
from chaos.lab.process import LabError, spawn, tail

if TYPE_CHECKING:
    from app.delivery.app import App

LOOK_S = 0.5
STOP_SHARE = 0.8
"""How much of the drain grace a GameDay that is to stop may have for its verdict."""
log = get_log(__name__)


def register(app: App) -> None:
    """Have `app` execute queued GameDays."""
    app.service(GameDayService(app))


class GameDayService(mode.Service):
    """Looks for queued runs twice a second."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def on_start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="gameday")

    async def on_stop(self) -> None:
        """Abort what goes on and wait for its end."""
        self._ending.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._app.settings.drain_grace_s)
            self._task.cancel()

    async def _run(self) -> None:
        settings = self._app.settings
        going_on = partial(lock.held, Path(settings.lab_dir))
        while not self._ending.is_set():
            try:
                await gamedays.expire(self._app.db, going_on)
                found = await gamedays.claim(self._app.db, settings.worker_id)
                if found is not None:
                    await self._execute(found[0])
            except (DatabaseOutage, TransientDatabase) as error:
                log.warning("gameday.database_away", error=error)
            except Exception as error:  # one run that fails must not be the last one
                log.error("gameday.round_failed", error=error)
            await asyncio.sleep(LOOK_S)

    async def _execute(self, run_id: str) -> None:
        """Let a child do it; afterwards the run has a verdict."""
        root = Path(self._app.settings.lab_dir)
        output = LabFiles(root).logs / "gameday-run.log"
        log.info("gameday.begins", run=run_id)
        try:
            child = spawn(
                [sys.executable, "-P", "-m", "chaos.gameday.child", str(root), run_id], log=output
            )
        except (LabError, OSError) as error:
            log.error("gameday.not_begun", run=run_id, error=error)
            await self._lost(run_id, f"its process could not be started: {error}")
            return
        code = await self._ended(child)
        log.info("gameday.ended", run=run_id, exit_code=code)
        why = f"its process ended with {code} and without a verdict: {tail(output)[-500:]}"
        await self._lost(run_id, why)

    async def _ended(self, child: subprocess.Popen[bytes]) -> int:
        """The exit code; a worker that stops gives the child a while, then kills it."""
        deadline: float | None = None
        while (code := child.poll()) is None:
            if self._ending.is_set() and deadline is None:
                child.terminate()
                deadline = time.monotonic() + STOP_SHARE * self._app.settings.drain_grace_s
            if deadline is not None and time.monotonic() > deadline:
                child.kill()
                deadline = float("inf")
            await asyncio.sleep(LOOK_S / 2)
        return code

    async def _lost(self, run_id: str, why: str) -> None:
        """Say that a run has no verdict, if it has none; the database may be away for long."""
        while True:
            try:
                await gamedays.lost(self._app.db, run_id, why)
            except (DatabaseOutage, TransientDatabase):
                await asyncio.sleep(LOOK_S)
            else:
                return
