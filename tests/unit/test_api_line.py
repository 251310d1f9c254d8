"""Facts about the line of orders that wait for a writer: whoever is let in does not wait long."""

from __future__ import annotations

import heapq
from collections import deque
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.api.line import Bounds, Line, has_room, paced

pytestmark = pytest.mark.unit

BOUNDS = Bounds(waiting_max=100, wait_max_s=0.25, batch_max=10)


@pytest.mark.parametrize(
    ("waiting", "first_waits_s", "pace_s", "room"),
    [
        (0, 0.0, 0.0, True),
        (0, 0.0, 60.0, True),
        (9, 0.25, 60.0, True),
        (10, 0.1, 60.0, False),
        (9, 0.26, 0.0, False),
        (29, 0.1, 0.1, True),
        (30, 0.1, 0.1, False),
        (99, 0.1, 0.0, True),
        (100, 0.1, 0.0, False),
    ],
)
def test_there_is_room_within_all_three_bounds(
    waiting: int, first_waits_s: float, pace_s: float, room: bool
) -> None:
    """By count, by how long the first waits, and by how long the newcomer would."""
    assert has_room(Line(waiting, first_waits_s, pace_s), BOUNDS) is room


class Served(NamedTuple):
    """What became of a simulated day: waits of who was let in, and the lines that had no room."""

    waits_s: list[float]
    refused: list[Line]


def serve(gaps_s: list[float], batches_s: list[float], writers: int) -> Served:
    """Let orders come `gaps_s` apart to writers whose batches take `batches_s` in turn."""
    served, line, pace_s = Served([], []), deque[float](), batches_s[0] / writers
    free, running, number = writers, list[tuple[float, float]](), 0

    def advance(until_s: float) -> None:
        nonlocal free, number, pace_s
        while running and running[0][0] <= until_s:
            now, took_s = heapq.heappop(running)
            pace_s, free = paced(pace_s, took_s, writers), free + 1
            take(now)

    def take(now: float) -> None:
        nonlocal free, number
        if not (free and line):
            return
        for _ in range(min(len(line), BOUNDS.batch_max)):
            served.waits_s.append(now - line.popleft())
        took_s = batches_s[number % len(batches_s)]
        heapq.heappush(running, (now + took_s, took_s))
        free, number = free - 1, number + 1

    now = 0.0
    for gap_s in gaps_s:
        now += gap_s
        advance(now)
        here = Line(len(line), now - line[0] if line else 0.0, pace_s)
        if has_room(here, BOUNDS):
            line.append(now)
            take(now)
        else:
            served.refused.append(here)
    advance(float("inf"))
    return served


STRETCH = st.tuples(st.integers(1, 200), st.sampled_from([0.0, 0.001, 0.005, 0.02, 0.5]))
GAPS = st.lists(STRETCH, min_size=1, max_size=5).map(
    lambda stretches: [gap_s for count, gap_s in stretches for _ in range(count)]
)


@given(GAPS, st.lists(st.floats(0.05, 0.1), min_size=1, max_size=20), st.integers(1, 3))
def test_nobody_who_is_let_in_waits_much_longer_than_the_bound(
    gaps_s: list[float], batches_s: list[float], writers: int
) -> None:
    """However many come: the bound, times how uneven batches are, and one batch under way."""
    served = serve(gaps_s, batches_s, writers)
    uneven = max(batches_s) / min(batches_s)
    longest_s = BOUNDS.wait_max_s * uneven + 2 * max(batches_s)
    assert max(served.waits_s) <= longest_s
    assert len(served.waits_s) + len(served.refused) == len(gaps_s)


@given(GAPS, st.lists(st.floats(0.001, 2.0), min_size=1, max_size=20), st.integers(1, 3))
def test_nobody_is_refused_for_the_pace_while_less_than_a_batch_waits(
    gaps_s: list[float], batches_s: list[float], writers: int
) -> None:
    """Whatever batches took before: writers get full batches, and learn from them."""
    for line in serve(gaps_s, batches_s, writers).refused:
        assert line.waiting >= BOUNDS.batch_max or line.first_waits_s > BOUNDS.wait_max_s


def test_the_pace_follows_a_change_within_a_few_batches() -> None:
    """From fast to slow and back, and the first batch tells all that is known."""
    pace_s = paced(0.0, 0.1, 2)
    assert pace_s == 0.05
    for batch_s in (1.0, 0.02):
        for _ in range(8):
            pace_s = paced(pace_s, batch_s, 2)
        assert pace_s == pytest.approx(batch_s / 2, abs=0.03)
