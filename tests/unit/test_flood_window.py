"""How many dead letters are too many: the sliding window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.flood_window import FloodWindow

pytestmark = pytest.mark.unit


def test_the_limit_is_reached_and_not_passed() -> None:
    """As many as are allowed pass, the next one does not, and is not counted."""
    window = FloodWindow(3, 60)
    assert [window.admit(n, 0.0) for n in range(5)] == [True, True, True, False, False]
    assert window.count(0.0) == 3


def test_a_record_counts_once() -> None:
    """The same record after a rollback of its batch is no further dead letter."""
    window = FloodWindow(1, 60)
    assert [window.admit("a", now_s) for now_s in (0.0, 1.0, 59.0)] == [True] * 3
    assert not window.admit("b", 59.0)


@pytest.mark.parametrize(("now_s", "passes"), [(59.9, False), (60.0, True), (61.0, True)])
def test_old_letters_leave_the_window(now_s: float, passes: bool) -> None:
    """What is as old as the window is long counts no more."""
    window = FloodWindow(1, 60)
    window.admit("a", 0.0)
    assert window.admit("b", now_s) is passes


def test_anyhow_counts_beyond_the_limit() -> None:
    """What an operator lets pass is counted against what comes after it."""
    window = FloodWindow(2, 60)
    assert all(window.admit(n, 0.0, anyhow=True) for n in range(5))
    assert window.count(0.0) == 5
    assert not window.admit("next", 59.0)
    assert window.admit("next", 60.0)


def test_cleared_is_new() -> None:
    """After a release the count begins anew."""
    window = FloodWindow(1, 60)
    window.admit("a", 0.0)
    window.clear()
    assert window.count(0.0) == 0
    assert window.admit("b", 0.0)


@given(
    gaps=st.lists(st.floats(0, 5), max_size=60),
    letters_max=st.integers(1, 6),
    window_s=st.floats(0.5, 10),
)
def test_no_window_ever_holds_too_many(
    gaps: list[float], letters_max: int, window_s: float
) -> None:
    """Wherever a window is laid over what was admitted, it holds at most the limit; and what was
    refused would have broken that."""
    window, now_s = FloodWindow(letters_max, window_s), 0.0
    admitted: list[float] = []
    for number, gap_s in enumerate(gaps):
        now_s += gap_s
        inside = sum(now_s - at < window_s for at in admitted)
        assert window.admit(number, now_s) is (inside < letters_max)
        if inside < letters_max:
            admitted.append(now_s)
