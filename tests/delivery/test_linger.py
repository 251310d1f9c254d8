"""How long polls wait to become full."""

from __future__ import annotations

import pytest

from app.delivery.linger import Linger

pytestmark = pytest.mark.unit


def run(linger: Linger, *, step_s: float, gap_s: float, steps: int, at_s: float = 0.0) -> int:
    """Steps of one length with one pause between them; the last wait."""
    wait_ms = -1
    for _ in range(steps):
        at_s += gap_s
        wait_ms = linger.after_step(at_s, at_s + step_s)
        at_s += step_s
    return wait_ms


def test_a_consumer_with_time_to_spare_polls_early() -> None:
    """Steps that fill a fifth of the time leave the wait at its least."""
    assert run(Linger(25, 80), step_s=0.01, gap_s=0.04, steps=50) == 25


def test_a_consumer_without_time_waits_for_full_polls() -> None:
    """Steps that follow each other closely raise the wait to its most, and not above."""
    assert run(Linger(25, 80), step_s=0.1, gap_s=0.001, steps=50) == 80


def test_between_the_two_the_wait_grows_with_the_load() -> None:
    """More of the time in steps never shortens the wait."""
    waits = [run(Linger(25, 80), step_s=one, gap_s=0.02, steps=80) for one in (0.01, 0.02, 0.04)]
    assert waits == sorted(waits)
    assert 25 < waits[1] < 80


def test_the_wait_falls_when_the_load_is_gone() -> None:
    """A quiet time after a busy one brings the short wait back."""
    linger = Linger(25, 80)
    run(linger, step_s=0.1, gap_s=0.0, steps=50)
    assert run(linger, step_s=0.001, gap_s=0.1, steps=50, at_s=100.0) == 25


def test_a_busy_wait_below_the_idle_one_is_the_idle_one() -> None:
    """A role that waits long anyway is never made to wait less."""
    assert run(Linger(500, 80), step_s=0.1, gap_s=0.0, steps=50) == 500
