"""How far apart polls are."""

from __future__ import annotations

import pytest

from app.delivery.pace import Pace

pytestmark = pytest.mark.unit


def run(pace: Pace, *, step_s: float, gap_s: float, steps: int, at_s: float = 0.0) -> float:
    """Steps of one length with one pause between them; the last pace."""
    pace_ms = -1.0
    for _ in range(steps):
        at_s += gap_s
        pace_ms = pace.after_step(at_s, at_s + step_s)
        at_s += step_s
    return pace_ms


def test_a_consumer_with_time_to_spare_polls_early() -> None:
    """Steps that fill a fifth of the time leave the pace at its least."""
    assert run(Pace(25, 80), step_s=0.01, gap_s=0.04, steps=50) == 25


def test_a_consumer_without_time_is_given_full_polls() -> None:
    """Steps that follow each other closely raise the pace to its most, and not above."""
    assert run(Pace(25, 80), step_s=0.1, gap_s=0.001, steps=50) == 80


def test_between_the_two_the_pace_grows_with_the_load() -> None:
    """More of the time in steps never shortens the pace."""
    paces = [run(Pace(25, 80), step_s=one, gap_s=0.02, steps=80) for one in (0.01, 0.02, 0.04)]
    assert paces == sorted(paces)
    assert 25 < paces[1] < 80


def test_the_pace_falls_when_the_load_is_gone() -> None:
    """A quiet time after a busy one brings the short pace back."""
    pace = Pace(25, 80)
    run(pace, step_s=0.1, gap_s=0.0, steps=50)
    assert run(pace, step_s=0.001, gap_s=0.1, steps=50, at_s=100.0) == 25


def test_a_busy_pace_below_the_idle_one_is_the_idle_one() -> None:
    """A role that polls rarely anyway is never made to poll more."""
    assert run(Pace(500, 80), step_s=0.1, gap_s=0.0, steps=50) == 500
