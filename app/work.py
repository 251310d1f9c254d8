"""Work that a worker does beside its consumers, from Faust's start to its stop.

Guarantees: what is under way when the worker stops is finished, within the drain grace; work that
ends by an error ends the process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import mode

from app.delivery.exits import Reason, end_process
from app.errors import OutageBudgetSpent

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.delivery.app import App


class Work(Protocol):
    """One loop over broker and database."""

    async def run(self) -> None:
        """Work until `stop` or cancellation, then let go of everything. Raises OutageBudgetSpent,
        and what no retry can heal.
        """

    def stop(self) -> None:
        """Ask `run` to end after what is under way."""


class WorkService(mode.Service):
    """Runs what `make` returns; `name` is how log and last words call it."""

    def __init__(self, app: App, name: str, make: Callable[[App], Work]) -> None:
        super().__init__()
        self._app = app
        self._name = name
        self._make = make
        self._work: Work | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def label(self) -> str:
        """What mode's log calls this service."""
        return self._name

    async def on_start(self) -> None:
        """Begin; broker and database were there when the worker started."""
        self._work = self._make(self._app)
        self._task = asyncio.create_task(self._run(self._work), name=self._name)

    async def on_stop(self) -> None:
        """Have what is under way finished."""
        if self._work is None or self._task is None:
            return
        self._work.stop()
        _, late = await asyncio.wait([self._task], timeout=self._app.settings.drain_grace_s)
        if late:
            end_process(Reason.DRAIN, f"{self._name}: what was under way outlived the drain grace")

    async def _run(self, work: Work) -> None:
        try:
            await work.run()
        except OutageBudgetSpent as error:
            end_process(Reason.OUTAGE, str(error))
        except Exception as error:
            end_process(Reason.FAILURE, f"{self._name}: {type(error).__name__}: {error}")
