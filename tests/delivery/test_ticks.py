"""When due work runs: the heap of due keys and the clock of ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.ticks import DueHeap, TickClock

pytestmark = pytest.mark.unit

T0 = datetime(2026, 1, 1, tzinfo=UTC)
IN0, REPLY0, IN1 = TP("in", 0), TP("reply", 0), TP("in", 1)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_due_keys_come_earliest_first_and_once() -> None:
    """A key is taken once, in order of its time; what is not due stays."""
    heap = DueHeap([(at(3), b"c"), (at(1), b"a"), (at(9), b"z")])
    heap.push(b"b", at(2))
    assert heap.pop_due(at(5), 10) == [b"a", b"b", b"c"]
    assert heap.pop_due(at(5), 10) == []
    assert len(heap) == 1


def test_a_new_time_replaces_the_old_one() -> None:
    """Pushing again moves a key later or earlier; None takes it out."""
    heap = DueHeap([(at(1), b"later"), (at(9), b"sooner"), (at(1), b"gone")])
    heap.push(b"later", at(8))
    heap.push(b"sooner", at(2))
    heap.push(b"gone", None)
    assert heap.pop_due(at(5), 10) == [b"sooner"]
    assert heap.pop_due(at(8), 10) == [b"later"]
    assert len(heap) == 0


def test_a_look_takes_at_most_its_limit() -> None:
    """The rest stays due for the next look."""
    heap = DueHeap((at(n), b"%d" % n) for n in range(5))
    assert heap.pop_due(at(9), 3) == [b"0", b"1", b"2"]
    assert heap.pop_due(at(9), 3) == [b"3", b"4"]


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20)),
        max_size=40,
    ),
    st.integers(0, 20),
)
def test_the_heap_equals_a_plain_dictionary(pushes: list[tuple[int, int | None]], now: int) -> None:
    """After any pushes, what is due is what a dictionary of last times says."""
    heap, model = DueHeap(), dict[bytes, int]()
    for number, seconds in pushes:
        key = b"%d" % number
        heap.push(key, None if seconds is None else at(seconds))
        if seconds is None:
            model.pop(key, None)
        else:
            model[key] = seconds
    due = {key for key, seconds in model.items() if seconds <= now}
    taken = heap.pop_due(at(now), 100)
    assert (len(taken), set(taken)) == (len(due), due)
    assert [model[key] for key in taken] == sorted(model[key] for key in taken)
    assert len(heap) == len(model) - len(due)


def test_the_first_tick_comes_one_interval_after_the_assignment() -> None:
    """A new assignment first reads what is there."""
    clock = TickClock(1.0)
    clock.restart([0], 100.0)
    assert clock.ready(100.9, {IN0: 0}, {IN0: 0}) == []
    assert clock.ready(101.0, {IN0: 0}, {IN0: 0}) == [0]


def test_a_tick_waits_for_what_was_in_the_log_when_it_became_due() -> None:
    """A reply that was there in time beats its timeout; one that came later does not delay it."""
    clock = TickClock(1.0)
    clock.restart([0], 0.0)
    assert clock.ready(1.0, {IN0: 5, REPLY0: 8}, {IN0: 5, REPLY0: 6}) == []
    assert clock.ready(1.5, {IN0: 9, REPLY0: 99}, {IN0: 5, REPLY0: 7}) == []
    assert clock.ready(2.0, {IN0: 9, REPLY0: 99}, {IN0: 5, REPLY0: 8}) == [0]


def test_a_tick_waits_until_the_end_of_every_input_is_known() -> None:
    """An end that no fetch has told yet holds the tick back, then counts from when it is known."""
    clock = TickClock(1.0)
    clock.restart([0], 0.0)
    assert clock.ready(1.0, {IN0: None, REPLY0: 0}, {IN0: 0, REPLY0: 0}) == []
    assert clock.ready(1.2, {IN0: 3, REPLY0: 7}, {IN0: 2, REPLY0: 0}) == []
    assert clock.ready(1.4, {IN0: 9, REPLY0: 7}, {IN0: 3, REPLY0: 0}) == [0]


def test_partitions_tick_apart() -> None:
    """One partition's backlog does not hold another's tick."""
    clock = TickClock(1.0)
    clock.restart([0, 1], 0.0)
    assert clock.ready(1.0, {IN0: 5, IN1: 2}, {IN0: 0, IN1: 2}) == [1]


def test_the_next_tick_looks_at_the_log_anew() -> None:
    """After a tick the interval starts again and so does the end that must be read."""
    clock = TickClock(1.0)
    clock.restart([0], 0.0)
    assert clock.ready(1.0, {IN0: 5}, {IN0: 5}) == [0]
    clock.ran(0, 1.0)
    assert clock.ready(1.9, {IN0: 5}, {IN0: 5}) == []
    assert clock.ready(2.0, {IN0: 7}, {IN0: 5}) == []
    assert clock.ready(2.1, {IN0: 7}, {IN0: 7}) == [0]


def test_a_new_assignment_forgets_the_old_partitions() -> None:
    """Only partitions of the present assignment tick."""
    clock = TickClock(1.0)
    clock.restart([0], 0.0)
    clock.restart([1], 5.0)
    assert clock.ready(9.0, {IN0: 0, IN1: 0}, {IN0: 0, IN1: 0}) == [1]
