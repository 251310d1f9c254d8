"""How far apart polls are: close while there is time, wider when there is none.

Most of a step's cost is per step, not per record. A consumer with time to spare polls often and
answers fast; one whose steps follow each other closely polls less often, gets fuller polls, and so
spends less on each record. The share of time spent in steps includes waiting for a contended
processor, database or broker, so the whole machine's load is felt.
"""

from __future__ import annotations

SMOOTHING = 0.2
BUSY_FROM = 0.35
BUSY_FULLY = 0.75


class Pace:
    """The least time between one consumer's fetches, from `idle_ms` to `busy_ms`."""

    def __init__(self, idle_ms: int, busy_ms: int) -> None:
        self._idle_ms = idle_ms
        self._busy_ms = max(idle_ms, busy_ms)
        self._share = 0.0
        self._ended_at_s: float | None = None

    def after_step(self, began_s: float, ended_s: float) -> float:
        """Note a step (monotonic seconds); return the pace in milliseconds."""
        if self._ended_at_s is not None and ended_s > self._ended_at_s:
            share = (ended_s - began_s) / (ended_s - self._ended_at_s)
            self._share += SMOOTHING * (min(1.0, share) - self._share)
        self._ended_at_s = ended_s
        way = (self._share - BUSY_FROM) / (BUSY_FULLY - BUSY_FROM)
        return self._idle_ms + (self._busy_ms - self._idle_ms) * min(1.0, max(0.0, way))
