"""Every transition of the circuit breaker, and every report that must not cause one."""

from __future__ import annotations

import pytest

from app.clock import ManualClock
from app.gateway.breaker import Breaker, Permit, State

pytestmark = pytest.mark.unit


class Bench:
    """A breaker with limits 3 failures and 5 s, its clock, and the states it announced."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seen: list[State] = []
        self.answered: list[State] = []
        self.breaker = Breaker(
            failures_max=3,
            open_s=5,
            monotonic=self.clock.monotonic,
            changed=self.seen.append,
            answered=self.answered.append,
        )

    def admitted(self) -> Permit:
        permit = self.breaker.admit()
        assert permit is not None
        return permit

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.fail(self.admitted())

    def half_open(self) -> Permit:
        self.fail(3)
        self.clock.advance(5)
        return self.admitted()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_closed_admits_everybody(bench: Bench) -> None:
    """A closed breaker admits any number of calls at the same time."""
    assert all(bench.breaker.admit() is not None for _ in range(100))
    assert bench.breaker.state is State.CLOSED


def test_closed_opens_at_the_limit(bench: Bench) -> None:
    """The third consecutive failure opens the breaker, the second does not."""
    bench.fail(2)
    assert bench.breaker.state is State.CLOSED
    bench.fail(1)
    assert bench.breaker.state is State.OPEN
    assert bench.seen == [State.OPEN]


def test_success_starts_the_count_again(bench: Bench) -> None:
    """Failures count only when nothing succeeded in between."""
    for _ in range(5):
        bench.fail(2)
        bench.breaker.succeed(bench.admitted())
    assert bench.breaker.state is State.CLOSED


def test_the_first_answer_is_told_once(bench: Bench) -> None:
    """Failures are no answer; a first answer that closes the breaker is told as that alone."""
    bench.fail(1)
    bench.breaker.abandon(bench.admitted())
    assert bench.answered == []
    for _ in range(3):
        bench.breaker.succeed(bench.admitted())
    assert (bench.answered, bench.seen) == ([State.CLOSED], [])
    late = Bench()
    late.breaker.succeed(late.half_open())
    late.breaker.succeed(late.admitted())
    assert (late.answered, late.seen[-1]) == ([], State.CLOSED)


def test_abandoned_call_counts_neither_way(bench: Bench) -> None:
    """A call given up in the closed state leaves the count of failures as it was."""
    bench.fail(2)
    bench.breaker.abandon(bench.admitted())
    assert bench.breaker.state is State.CLOSED
    bench.fail(1)
    assert bench.breaker.state is State.OPEN


def test_open_refuses_until_its_time(bench: Bench) -> None:
    """An open breaker refuses up to the last moment before open_s and says how long."""
    bench.fail(3)
    assert bench.breaker.admit() is None
    bench.clock.advance(4.5)
    assert bench.breaker.retry_after_s() == pytest.approx(0.5)
    assert bench.breaker.admit() is None
    bench.clock.advance(0.5)
    assert bench.breaker.admit() is not None


def test_half_open_admits_a_single_probe(bench: Bench) -> None:
    """After open_s exactly one caller is admitted while its report is outstanding."""
    bench.half_open()
    assert bench.breaker.state is State.HALF_OPEN
    assert [bench.breaker.admit() for _ in range(50)] == [None] * 50


def test_successful_probe_closes(bench: Bench) -> None:
    """A successful probe closes the breaker with an empty count."""
    bench.breaker.succeed(bench.half_open())
    assert bench.breaker.state is State.CLOSED
    bench.fail(2)
    assert bench.breaker.state is State.CLOSED
    assert bench.seen == [State.OPEN, State.HALF_OPEN, State.CLOSED]


def test_failed_probe_opens_again_for_the_whole_time(bench: Bench) -> None:
    """One failed probe opens the breaker again and the waiting time starts anew."""
    bench.breaker.fail(bench.half_open())
    assert bench.breaker.state is State.OPEN
    bench.clock.advance(4.9)
    assert bench.breaker.admit() is None
    bench.clock.advance(0.1)
    assert bench.breaker.admit() is not None


def test_abandoned_probe_leaves_its_place(bench: Bench) -> None:
    """A probe that is cancelled does not block the breaker: the next caller is the probe."""
    bench.breaker.abandon(bench.half_open())
    assert bench.breaker.state is State.HALF_OPEN
    bench.breaker.succeed(bench.admitted())
    assert bench.breaker.state is State.CLOSED


@pytest.mark.parametrize("report", ["succeed", "fail", "abandon"])
def test_late_reports_change_nothing(bench: Bench, report: str) -> None:
    """A report of a call admitted before the last change of state is ignored in every state."""
    early = bench.admitted()
    bench.fail(3)
    getattr(bench.breaker, report)(early)
    assert bench.breaker.state is State.OPEN
    assert bench.breaker.retry_after_s() == 5
    bench.clock.advance(5)
    probe = bench.admitted()
    getattr(bench.breaker, report)(early)
    assert bench.breaker.state is State.HALF_OPEN
    assert bench.breaker.admit() is None
    bench.breaker.succeed(probe)
    for _ in range(3):
        getattr(bench.breaker, report)(early)
    assert bench.breaker.state is State.CLOSED


def test_impossible_limits_are_refused() -> None:
    """A breaker that could never close or never open cannot be made."""
    with pytest.raises(ValueError, match="failures_max"):
        Breaker(failures_max=0, open_s=1, monotonic=ManualClock().monotonic)
    with pytest.raises(ValueError, match="open_s"):
        Breaker(failures_max=1, open_s=-1, monotonic=ManualClock().monotonic)
