"""What one consumer shows of itself: lag and watermark age per partition, batch state, holds."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from faust.types import TP

from app.delivery.state import StateTracker
from app.delivery.watchdog import Progress
from app.observability import metrics
from app.observability.families import one_of

if TYPE_CHECKING:
    from app.delivery.app import App

REPORT_S = 1.0


class PartitionReport(NamedTuple):
    """One partition; `end` and `lag_records` are None until the first fetch answered.

    `watermark_age_s` is the time since the watermark moved while records wait, 0 when caught up.
    """

    topic: str
    partition: int
    watermark: int
    committed: int
    end: int | None
    lag_records: int | None
    watermark_age_s: float


class Reporter:
    """Reports on one consumer to /status and /metrics."""

    def __init__(self, app: App, name: str, topics: tuple[str, ...], state: StateTracker) -> None:
        self._app = app
        self._name = name
        self._topics = frozenset(topics)
        self._state = state
        self._progress = Progress()
        self._shown: set[TP] = set()
        self._guarded: dict[str, int] = {}

    def partitions(self) -> list[PartitionReport]:
        """The assigned partitions, in order."""
        consumer = self._app.consumer
        return [
            self._partition(tp, done)
            for tp, done in sorted(consumer.positions.done.items())
            if tp.topic in self._topics
        ]

    def _partition(self, tp: TP, done: int) -> PartitionReport:
        consumer = self._app.consumer
        end = consumer.highwater(tp)
        lag = None if end is None else max(0, end - done)
        age_s = self._progress.stands_s(tp, (consumer.epoch, done), monotonic()) if lag else 0.0
        if not lag:
            self._progress.moved(tp)
        committed = consumer.positions.committed(tp)
        return PartitionReport(tp.topic, tp.partition, done, committed, end, lag, round(age_s, 3))

    def status(self) -> dict[str, Any]:
        """JSON-encodable: consumer, state, hold_reason, state_age_s, paused topics, partitions."""
        view = self._state.view()
        return {
            "consumer": self._name,
            "state": view.state,
            "hold_reason": view.reason,
            "state_age_s": round(view.age_s, 3),
            "paused": sorted(self._topics & self._app.taps.paused),
            "partitions": [one._asdict() for one in self.partitions()],
        }

    def refresh(self) -> None:
        """Bring the gauges up to date; series of revoked partitions go away."""
        view = self._state.view()
        reports = self.partitions()
        for one in reports:
            labels = (self._name, one.topic, str(one.partition))
            metrics.LAG.child(*labels).set(one.lag_records or 0)
            metrics.WATERMARK_AGE.child(*labels).set(one.watermark_age_s)
            one_of(metrics.BATCH_STATE, labels, metrics.BATCH_STATES, view.state)
            one_of(metrics.HELD, labels, metrics.HOLD_REASONS, view.reason)
        for action, count in self._app.consumer.positions.stat.items():
            seen = self._guarded.get(action, 0)
            metrics.POSITION_GUARD.child(self._name, action).inc(count - seen)
            self._guarded[action] = count
        now = {TP(one.topic, one.partition) for one in reports}
        for tp in self._shown - now:
            labels = (self._name, tp.topic, str(tp.partition))
            metrics.LAG.forget(*labels)
            metrics.WATERMARK_AGE.forget(*labels)
            for state in metrics.BATCH_STATES:
                metrics.BATCH_STATE.forget(*labels, state)
            for reason in metrics.HOLD_REASONS:
                metrics.HELD.forget(*labels, reason)
        self._shown = now
