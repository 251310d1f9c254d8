"""What a consumer's current batch is doing: for the watchdog, /status and the metrics."""

from __future__ import annotations

from enum import StrEnum
from time import monotonic
from typing import NamedTuple


class BatchState(StrEnum):
    """A batch is working, held (the world is down) or waiting until it is due."""

    IDLE = "idle"
    WORKING = "working"
    HELD = "held"
    WAITING = "waiting"


class StateView(NamedTuple):
    """State, reason of a hold (else empty), and how long it has lasted in seconds."""

    state: BatchState
    reason: str
    age_s: float


class StateTracker:
    """State of one consumer's step; read from other threads, written by the main loop only."""

    def __init__(self) -> None:
        self._now: tuple[BatchState, str, float] = (BatchState.IDLE, "", monotonic())

    def enter(self, state: BatchState, reason: str = "") -> None:
        """Change the state; staying in the same state and reason keeps its start."""
        if self._now[:2] != (state, reason):
            self._now = (state, reason, monotonic())

    def restart(self) -> None:
        """Progress was made: the present state's age starts anew."""
        self._now = (*self._now[:2], monotonic())

    def view(self) -> StateView:
        """State, reason and age now."""
        state, reason, since = self._now
        return StateView(state, reason, monotonic() - since)
