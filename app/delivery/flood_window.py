"""How many dead letters one worker's consumer may make in a while: a pure sliding window.

It counts records, not tries: one that is dead-lettered again after a rollback or a rebalance counts
once while it is in the window.
"""

from __future__ import annotations

from collections.abc import Hashable


class FloodWindow:
    """At most `letters_max` different records within any `window_s` seconds.

    Times are seconds of one clock that never goes back. Never holds more than it has admitted.
    """

    def __init__(self, letters_max: int, window_s: float) -> None:
        self._letters_max, self._window_s = letters_max, window_s
        self._at: dict[Hashable, float] = {}

    def admit(self, record: Hashable, now_s: float, *, anyhow: bool = False) -> bool:
        """Count `record` and return True; False, uncounted, when it would be one too many.

        With `anyhow` it is counted whatever stands there already.
        """
        self._forget(now_s)
        if record in self._at:
            return True
        if len(self._at) >= self._letters_max and not anyhow:
            return False
        self._at[record] = now_s
        return True

    def count(self, now_s: float) -> int:
        """How many records the window holds now."""
        self._forget(now_s)
        return len(self._at)

    def clear(self) -> None:
        """Begin anew."""
        self._at.clear()

    def _forget(self, now_s: float) -> None:
        """Entries stand in the order of their times: only the first ones can be too old."""
        while self._at:
            first = next(iter(self._at))
            if now_s - self._at[first] < self._window_s:
                return
            del self._at[first]
