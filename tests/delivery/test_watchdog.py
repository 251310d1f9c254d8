"""When the watchdog ends a worker that is alive and does nothing."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from app.delivery import watchdog
from app.delivery.positions import Positions
from app.delivery.state import BatchState, StateView
from app.delivery.watchdog import Progress, Watchdog
from app.taps import Taps

pytestmark = pytest.mark.unit

LIMIT_S, SILENT_S, BUDGET_S = 30.0, 10.0, 120.0
A = TP("orders", 0)


class FakeConsumer:
    """A consumer at rest: partition A read to its end."""

    def __init__(self) -> None:
        self.started = self.released = True
        self.epoch = 1
        self.positions = Positions()
        self.positions.begin({A: 5}, {A: 5})
        self.ends: dict[TP, int | None] = {A: 5}
        self.loop = SimpleNamespace(call_soon_threadsafe=self._hear)
        self.hears = self.beats = True
        self.fetching: Future[None] = Future()
        self.coordinating: Future[None] = Future()
        self.coordinator = SimpleNamespace(coordinator_id=1, _coordination_task=self.coordinating)
        client = SimpleNamespace(
            _coordinator=self.coordinator, _fetcher=SimpleNamespace(_fetch_task=self.fetching)
        )
        self._thread = SimpleNamespace(_consumer=client, lease_at=0.0)

    def _hear(self, callback: Any) -> None:
        if self.hears:
            callback()

    def highwater(self, tp: TP) -> int | None:
        return self.ends[tp]


class World:
    """A fake app under a watchdog, and the clock of both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(watchdog, "monotonic", lambda: self.now_s)
        self.consumer = FakeConsumer()
        self.view = StateView(BatchState.IDLE, "", 0.0)
        self.active_offsets: dict[TP, int | None] = {}
        runner = SimpleNamespace(
            spec=SimpleNamespace(name="agent", topics=("orders",)),
            step=SimpleNamespace(state=SimpleNamespace(view=lambda: self.view)),
        )
        self.app = SimpleNamespace(
            _consumer=self.consumer,
            consumer=self.consumer,
            consumer_generation_id=1,
            runners=[runner],
            taps=Taps(),
            settings=SimpleNamespace(
                watchdog_no_progress_s=LIMIT_S,
                watchdog_loop_silent_s=SILENT_S,
                outage_budget_s=BUDGET_S,
            ),
            tables=SimpleNamespace(_recovery=SimpleNamespace(active_offsets=self.active_offsets)),
        )
        self.dog = Watchdog(cast(Any, self.app))

    def after(self, seconds: float) -> str | None:
        """Look every second for so long; the first verdict, None when all stayed well."""
        for _ in range(int(seconds)):
            self.now_s += 1.0
            if self.consumer.beats:
                self.consumer._thread.lease_at = self.now_s
            why = self.dog.verdict(self.now_s)
            if why is not None:
                return why
        return None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A worker at rest."""
    return World(monkeypatch)


def test_progress_counts_since_the_last_change() -> None:
    """A mark ages from when it was first seen; a change or a forgotten one starts at 0."""
    progress = Progress()
    assert progress.stands_s("a", 1, 10.0) == 0.0
    assert progress.stands_s("a", 1, 14.0) == 4.0
    assert progress.stands_s("a", 2, 15.0) == 0.0
    progress.moved("a")
    assert progress.stands_s("a", 2, 99.0) == 0.0


def test_an_idle_worker_is_well(world: World) -> None:
    """Nothing to read is no lack of progress."""
    assert world.after(10 * LIMIT_S) is None


@pytest.mark.parametrize("released", [True, False])
def test_a_client_that_has_ceased_to_fetch_ends_the_worker(world: World, released: bool) -> None:
    """It learns of no record any more, so there is no lag to be seen."""
    world.consumer.released = released
    world.consumer.fetching.set_exception(ValueError("of all things"))
    why = world.after(2)
    assert why == "the Kafka client has ended its fetcher of ValueError('of all things')"


def test_a_client_that_has_ceased_to_join_ends_the_worker(world: World) -> None:
    """Nor does it say so when it no longer takes part in its group."""
    world.consumer.coordinating.cancel()
    assert "ended its coordinator" in (world.after(2) or "")


def test_a_group_without_coordinator_is_a_broker_outage(world: World) -> None:
    """While nobody serves the group, the outage budget bounds the wait; afterwards the limit."""
    world.consumer.released = False
    world.consumer.coordinator.coordinator_id = None
    assert world.after(BUDGET_S - 10) is None
    assert "without progress for 121 s" in (world.after(20) or "")


def test_a_rebalance_that_stands_after_the_coordinator_is_back_ends_the_worker(
    world: World,
) -> None:
    """The exemption ends one limit after the coordinator was last away."""
    world.consumer.released = False
    world.consumer.coordinator.coordinator_id = None
    assert world.after(40) is None
    world.consumer.coordinator.coordinator_id = 1
    assert world.after(LIMIT_S - 2) is None
    assert "without progress" in (world.after(5) or "")


def test_start_up_is_exempt(world: World) -> None:
    """A worker that waits for broker or database is not ended."""
    world.consumer.started = False
    world.consumer.hears = False
    assert world.after(10 * LIMIT_S) is None


def test_a_first_look_long_after_it_was_made_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts as silence begins when the thread does, not when the application was made."""
    world.now_s += 80.0
    world.consumer.hears = False  # the loop has not come round to the first look's call yet
    ended: list[str] = []
    looks = iter([False, True])
    monkeypatch.setattr(world.dog._quit, "wait", lambda _: next(looks))
    monkeypatch.setattr(watchdog, "end_process", lambda _, why: ended.append(why))
    world.app.should_stop = False
    world.dog.run()
    assert ended == []


def test_a_watermark_that_stands_ends_the_worker(world: World) -> None:
    """Records are there and nothing moves for longer than the limit."""
    world.consumer.ends[A] = 9
    assert world.after(LIMIT_S) is None
    assert world.after(3) == "orders-0: watermark 5 stands below 9"


def test_a_paused_topic_may_stand(world: World) -> None:
    """Whoever paused it bounds it; afterwards it counts from new."""
    world.consumer.ends[A] = 9
    world.app.taps.pause("rule", ["orders"])
    assert world.after(3 * LIMIT_S) is None
    world.app.taps.resume("rule")
    assert world.after(LIMIT_S) is None
    assert world.after(3) == "orders-0: watermark 5 stands below 9"


def test_a_moving_watermark_is_well(world: World) -> None:
    """However long the backlog, progress counts."""
    world.consumer.ends[A] = 10_000
    for _ in range(10):
        assert world.after(LIMIT_S - 1) is None
        world.consumer.positions.done[A] += 1


def test_a_record_that_comes_late_has_its_full_time(world: World) -> None:
    """Time without records does not count against the first record."""
    assert world.after(10 * LIMIT_S) is None
    world.consumer.ends[A] = 6
    assert world.after(LIMIT_S) is None


@pytest.mark.parametrize("state", [BatchState.HELD, BatchState.WAITING])
def test_a_held_or_waiting_batch_is_exempt(world: World, state: BatchState) -> None:
    """The world is down or the record is not due: the watermark may stand."""
    world.consumer.ends[A] = 9
    world.view = StateView(state, "database", 500.0)
    assert world.after(10 * LIMIT_S) is None


def test_a_step_that_works_too_long_ends_the_worker(world: World) -> None:
    """A step without progress is stuck even when it is the only record."""
    world.view = StateView(BatchState.WORKING, "", LIMIT_S + 1)
    assert world.after(2) == "agent: one step works for 31 s"


def test_a_rebalance_without_progress_ends_the_worker(world: World) -> None:
    """Neither epoch, generation nor recovery moves for longer than the limit."""
    world.consumer.released = False
    assert world.after(LIMIT_S) is None
    why = world.after(3)
    assert why is not None
    assert why.startswith("rebalance or recovery without progress")


def test_a_long_recovery_is_progress(world: World) -> None:
    """A changelog that is being read may take as long as it needs."""
    world.consumer.released = False
    for number in range(10):
        world.active_offsets[A] = number
        assert world.after(LIMIT_S - 1) is None


def test_a_silent_event_loop_ends_the_worker(world: World) -> None:
    """A loop that runs no callback is dead even while nothing is to do."""
    assert world.after(5) is None
    world.consumer.hears = False
    why = world.after(SILENT_S + 2)
    assert why is not None
    assert why.startswith("event loop silent")


def test_a_member_that_the_group_forgot_is_ended(world: World) -> None:
    """It looks idle, and reads nothing any more; an outage of the broker gets its budget first."""
    assert world.after(3 * BUDGET_S) is None
    world.consumer.beats = False
    assert world.after(BUDGET_S - 1) is None
    assert "no heartbeat was accepted for" in (world.after(5) or "")
