"""What /status and the watchdog see of a batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.delivery import state
from app.delivery.state import BatchState, StateTracker

pytestmark = pytest.mark.unit


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the tracker's clock."""
    now = [100.0]
    monkeypatch.setattr(state, "monotonic", lambda: now[0])

    def by(seconds: float) -> None:
        now[0] += seconds

    return by


def test_a_state_ages_until_it_changes(advance: Callable[[float], None]) -> None:
    """The age counts from when state or reason changed, not from the last mention."""
    tracker = StateTracker()
    assert tracker.view() == (BatchState.IDLE, "", 0.0)
    tracker.enter(BatchState.HELD, "database")
    advance(3)
    tracker.enter(BatchState.HELD, "database")
    assert tracker.view() == (BatchState.HELD, "database", 3.0)
    tracker.enter(BatchState.HELD, "broker")
    assert tracker.view() == (BatchState.HELD, "broker", 0.0)


def test_progress_starts_the_age_anew(advance: Callable[[float], None]) -> None:
    """A long batch that makes progress does not look stuck."""
    tracker = StateTracker()
    tracker.enter(BatchState.WORKING)
    advance(29)
    tracker.restart()
    advance(2)
    assert tracker.view() == (BatchState.WORKING, "", 2.0)
