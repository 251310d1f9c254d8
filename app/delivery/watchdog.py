"""Fail-stop for what no exception reports: a worker that is alive and does nothing.

A plain thread, because Faust's timers start only after recovery and stop with the loop. It ends
the process when the event loop is silent, when a routine of its Kafka client has ended, when a
rebalance or recovery makes no progress, when the group no longer accepts its heartbeats, or when a
partition has records and its watermark stands still. A held batch (the world is down), one that
waits until it is due and a topic that is paused are exempt: the outage budget bounds the first, its
due time the second, whoever paused it the third.
"""

from __future__ import annotations

import sys
import threading
import traceback
from time import monotonic
from typing import TYPE_CHECKING, Any

from faust.types import TP

from app.delivery import aiokafka_seams as seams
from app.delivery.exits import Reason, end_process
from app.delivery.state import BatchState
from app.observability.logging import last_words

if TYPE_CHECKING:
    from app.delivery.app import App

LOOK_S = 1.0


def _stacks() -> list[str]:
    """Where every thread of this process stands."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        f"{names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    ]


class Progress:
    """Remembers since when each mark has not changed: pure apart from the time it is given."""

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[Any, float]] = {}

    def stands_s(self, what: Any, mark: Any, now_s: float) -> float:
        """Seconds for which `what` has had the same `mark`; a new mark starts at 0."""
        known = self._seen.get(what)
        if known is None or known[0] != mark:
            self._seen[what] = (mark, now_s)
            return 0.0
        return now_s - known[1]

    def moved(self, what: Any) -> None:
        """`what` is fine; forget it."""
        self._seen.pop(what, None)


class Watchdog(threading.Thread):
    """Watches one consuming app; `watchdog_no_progress_s` and `watchdog_loop_silent_s` are its
    limits, both longer than rebalance timeout + drain grace."""

    def __init__(self, app: App) -> None:
        super().__init__(daemon=True, name="watchdog")
        self._app = app
        self._progress = Progress()
        self._beat = monotonic()
        self._quit = threading.Event()
        self._coordinator_away_at = float("-inf")

    def close(self) -> None:
        """Stop watching: the worker is leaving in good order."""
        self._quit.set()

    def run(self) -> None:
        """Look once a second until closed."""
        self._beat = monotonic()
        while not self._quit.wait(LOOK_S):
            if not self._app.should_stop:
                why = self.verdict(monotonic())
                if why is not None:
                    last_words(
                        "watchdog.stacks", f"[watchdog] {why}", None, why=why, stacks=_stacks()
                    )
                    end_process(Reason.WATCHDOG, why)

    def verdict(self, now_s: float) -> str | None:
        """Why the process must end, None while all is well. Reads other threads' state once."""
        app = self._app
        consumer = app._consumer
        if consumer is None or not consumer.started:
            self._beat = now_s  # start-up waits for broker and database and is exempt
            return None
        limit_s = app.settings.watchdog_no_progress_s
        consumer.loop.call_soon_threadsafe(self._hear)
        silent_s = now_s - self._beat
        if silent_s > app.settings.watchdog_loop_silent_s:
            return f"event loop silent for {silent_s:.0f} s"
        if ended := seams.ended_routine(consumer._thread._consumer):
            return f"the Kafka client has ended its {ended}"  # and knows of no record from then on
        if not consumer.released:
            return self._stuck_assignment(now_s, limit_s)
        self._progress.moved("assignment")
        return (
            self._stuck_step(now_s, limit_s)
            or self._stuck_partition(now_s, limit_s)
            or self._lost_membership(now_s, limit_s)
        )

    def _stuck_assignment(self, now_s: float, limit_s: float) -> str | None:
        """A group without coordinator is a broker outage, which the outage budget bounds."""
        app = self._app
        if not seams.coordinator_known(app.consumer._thread._consumer):
            self._coordinator_away_at = now_s
        if now_s - self._coordinator_away_at < limit_s:
            limit_s = max(limit_s, app.settings.outage_budget_s)
        stands_s = self._progress.stands_s("assignment", self._assignment_mark(), now_s)
        if stands_s > limit_s:
            return f"rebalance or recovery without progress for {stands_s:.0f} s"
        return None

    def _hear(self) -> None:
        self._beat = monotonic()

    def _assignment_mark(self) -> tuple[Any, ...]:
        app = self._app
        recovery = app.tables._recovery  # the property would make one in this thread
        offsets = recovery.active_offsets if recovery is not None else {}
        read = sum(offset or 0 for offset in list(offsets.values()))
        return app.consumer.epoch, app.consumer_generation_id, read

    def _stuck_step(self, now_s: float, limit_s: float) -> str | None:
        for runner in self._app.runners:
            view = runner.step.state.view()
            if view.state is BatchState.WORKING and view.age_s > limit_s:
                return f"{runner.spec.name}: one step works for {view.age_s:.0f} s"
        return None

    def _stuck_partition(self, now_s: float, limit_s: float) -> str | None:
        consumer = self._app.consumer
        for tp, done in list(consumer.positions.done.items()):
            end = consumer.highwater(tp)
            if not end or end <= done or self._exempt(tp):
                self._progress.moved(tp)
            elif self._progress.stands_s(tp, done, now_s) > limit_s:
                return f"{tp.topic}-{tp.partition}: watermark {done} stands below {end}"
        return None

    def _lost_membership(self, now_s: float, limit_s: float) -> str | None:
        """A member whose heartbeats nobody accepts owns nothing, however idle it looks; while the
        broker is away that is so for everybody, and bounded like any other outage.
        """
        silent_s = self._progress.stands_s("lease", self._app.consumer._thread.lease_at, now_s)
        if silent_s > max(limit_s, self._app.settings.outage_budget_s):
            return f"no heartbeat was accepted for {silent_s:.0f} s"
        return None

    def _exempt(self, tp: TP) -> bool:
        if tp.topic in self._app.taps.paused:
            return True
        for runner in self._app.runners:
            if tp.topic in runner.spec.topics:
                state = runner.step.state.view().state
                return state in (BatchState.HELD, BatchState.WAITING)
        return False
