"""The limit of dead letters: a consumer that makes too many is stopped until an operator acts.

One bad deployment can turn a whole topic into dead letters in minutes. So past `dead_letters_max`
within `dead_letters_window_s` the next record is not dead-lettered: its batch is *held*, without a
transaction and without end, and a row in ops.flood says so. Every worker of the consumer finds the
row, one that starts anew too, and holds before it does anything. An operator releases it. Each
worker counts its own, in memory: N of them make up to N times as many before one stops all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TYPE_CHECKING

from app.db import floods
from app.delivery.flood_window import FloodWindow
from app.delivery.state import BatchState, StateTracker
from app.errors import DatabaseOutage, TransientDatabase
from app.observability import metrics
from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.delivery.app import App

log = get_log(__name__)

LOOK_S = 1.0
"""How often a stopped consumer looks whether it was released."""
REFRESH_S = 5.0
"""How often a working one looks whether another worker of it was stopped."""
HOLD_REASON = "flood"

Pause = Callable[[float], Awaitable[None]]


class Flooded(Exception):
    """One dead letter too many: leave the transaction and `hold`, then try again."""

    def __init__(self, gate: FloodGate) -> None:
        super().__init__("too many dead letters")
        self._gate = gate

    async def hold(self, pause: Pause) -> None:
        """As FloodGate.hold."""
        await self._gate.hold(pause)


class FloodBook:
    """The rows of ops.flood, as one worker reads and writes them."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def find(self, consumer: str) -> floods.Flood | None:
        """The flood for which `consumer` is stopped."""
        return await floods.find(self._app.db, consumer)

    async def open(self, consumer: str, dead_letters: int, detail: str) -> None:
        """Stop `consumer`; keeps the row of one that is stopped already."""
        await floods.open_flood(self._app.db, consumer, dead_letters, detail)


class FloodGate:
    """Whether one consumer may make dead letters; used by its step only, on the main loop.

    `stopped` says why the consumer is stopped, empty while it is not.
    """

    def __init__(self, app: App, consumer: str, state: StateTracker) -> None:
        settings = app.settings
        self._app, self._name, self._state = app, consumer, state
        self._limit = settings.dead_letters_max, settings.dead_letters_window_s
        self._window = FloodWindow(*self._limit)
        self._looked_at = float("-inf")
        self._passing = False
        self._unwritten = False
        self.stopped = ""

    def admit(self, record: Hashable) -> None:
        """Let `record` be dead-lettered; raises Flooded when it would be one too many.

        After a release what is left of the held batch passes, however much it is, and counts.
        """
        now_s = self._app.clock.monotonic()
        if not self._window.admit(record, now_s, anyhow=self._passing):
            raise Flooded(self)

    async def admit_all(self, records: Iterable[Hashable], pause: Pause) -> None:
        """As `admit` for each, outside any transaction: holds where that raises."""
        for record in records:
            while True:
                try:
                    self.admit(record)
                except Flooded:
                    await self.hold(pause)
                else:
                    break

    async def begin_step(self, pause: Pause) -> None:
        """Before anything of a batch is done: hold while the consumer is stopped, here or by
        another worker of it. Raises Abandoned on a revocation."""
        self._passing = False
        now_s = self._app.clock.monotonic()
        if not self.stopped and now_s - self._looked_at > REFRESH_S:
            await self._look()
        if self.stopped:
            await self.hold(pause)

    async def prepare(self) -> None:
        """A new assignment: a consumer that was stopped before says so at once."""
        await self._look()

    async def hold(self, pause: Pause) -> None:
        """Wait until an operator releases the consumer. Raises Abandoned on a revocation."""
        if not self.stopped:
            letters_max, window_s = self._limit
            self._stop(f"more than {letters_max} dead letters within {window_s:g} s")
            self._unwritten = True
        if self._state.view().reason != HOLD_REASON:
            metrics.HOLDS.child(self._name, HOLD_REASON).inc()
        self._state.enter(BatchState.HELD, HOLD_REASON)
        while not await self._is_released():
            await pause(LOOK_S)
        self.stopped = ""
        self._window.clear()
        self._passing = True
        metrics.DLQ_FLOOD.child(self._name).set(0)
        log.warning("dlq.flood_released", consumer=self._name)
        self._state.enter(BatchState.WORKING)

    def _stop(self, why: str) -> None:
        self.stopped = why
        metrics.DLQ_FLOOD.child(self._name).set(1)
        log.error(
            "dlq.flood",
            consumer=self._name,
            reason=why,
            todo=f"mend the cause, then: symphony dlq release {self._name}",
        )

    async def _is_released(self) -> bool:
        try:
            if self._unwritten:
                count = self._window.count(self._app.clock.monotonic())
                await self._app.floods.open(self._name, count, self.stopped)
                self._unwritten = False
            return await self._app.floods.find(self._name) is None
        except (DatabaseOutage, TransientDatabase):
            return False

    async def _look(self) -> None:
        """Learn of a stop from the row; a database that is away is met by the step itself."""
        self._looked_at = self._app.clock.monotonic()
        try:
            found = await self._app.floods.find(self._name)
        except (DatabaseOutage, TransientDatabase):
            return
        if found is not None and not self.stopped:
            self._stop(found.detail)
