"""What one consumer shows of itself: lag and watermark age per partition, batch state, holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from faust.types import TP

from app.delivery.events import TellingHandler
from app.delivery.state import StateTracker
from app.delivery.watchdog import Progress
from app.observability import metrics
from app.observability.families import one_of

if TYPE_CHECKING:
    from app.delivery.app import App

REPORT_S = 1.0
_COMMITS = "commits"


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

    def __init__(
        self,
        app: App,
        name: str,
        topics: tuple[str, ...],
        state: StateTracker,
        handler: TellingHandler | None = None,
    ) -> None:
        """`handler` has something to add to /status."""
        self._handler = handler
        self._app = app
        self._name = name
        self._topics = frozenset(topics)
        self._state = state
        self._progress = Progress()
        self._shown: set[str] = set()
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
        """JSON-encodable: consumer, state, hold_reason, state_age_s, paused topics, partitions, and
        what the handler has to say."""
        view = self._state.view()
        said = {} if self._handler is None else {"handler": dict(self._handler.said())}
        return said | {
            "consumer": self._name,
            "state": view.state,
            "hold_reason": view.reason,
            "state_age_s": round(view.age_s, 3),
            "paused": sorted(self._topics & self._app.taps.paused),
            "partitions": [one._asdict() for one in self.partitions()],
        }

    def refresh(self) -> None:
        """Bring the gauges up to date; what belongs to revoked partitions goes away."""
        view = self._state.view()
        one_of(metrics.BATCH_STATE, (self._name,), metrics.BATCH_STATES, view.state)
        one_of(metrics.HELD, (self._name,), metrics.HOLD_REASONS, view.reason)
        by_topic: dict[str, list[PartitionReport]] = defaultdict(list)
        for one in self.partitions():
            by_topic[one.topic].append(one)
        for topic, listed in by_topic.items():
            self._show_topic(topic, listed)
        for topic in self._shown - by_topic.keys():
            metrics.LAG.forget(self._name, topic)
            metrics.WATERMARK_AGE.forget(self._name, topic)
        self._shown = set(by_topic)
        self._show_commits([one for listed in by_topic.values() for one in listed])
        for action, count in self._app.consumer.positions.stat.items():
            seen = self._guarded.get(action, 0)
            metrics.POSITION_GUARD.child(self._name, action).inc(count - seen)
            self._guarded[action] = count

    def _show_topic(self, topic: str, listed: Sequence[PartitionReport]) -> None:
        """A partition whose end is not known makes the topic's lag unknown."""
        lags = [one.lag_records for one in listed if one.lag_records is not None]
        if len(lags) == len(listed):
            metrics.LAG.child(self._name, topic).set(sum(lags))
        else:
            metrics.LAG.forget(self._name, topic)
        oldest_s = max(one.watermark_age_s for one in listed)
        metrics.WATERMARK_AGE.child(self._name, topic).set(oldest_s)

    def _show_commits(self, listed: Sequence[PartitionReport]) -> None:
        if not listed:
            metrics.COMMIT_AGE.forget(self._name)
            return
        age_s = 0.0
        if any(one.watermark > max(0, one.committed) for one in listed):
            committed = (self._app.consumer.epoch, sum(one.committed for one in listed))
            age_s = self._progress.stands_s(_COMMITS, committed, monotonic())
        else:
            self._progress.moved(_COMMITS)
        metrics.COMMIT_AGE.child(self._name).set(round(age_s, 3))
