"""A change that undoes itself, so that a fault ends even when its owner is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Lease:
    """Calls `undo` once after `lease_ms`, unless renewed or cancelled before."""

    def __init__(self, lease_ms: int, undo: Callable[[], None]) -> None:
        self._undo = undo
        self._loop = asyncio.get_running_loop()
        self._timer = self._set(lease_ms)

    @property
    def ms_left(self) -> int:
        """Milliseconds until the change undoes itself."""
        return max(0, round((self._timer.when() - self._loop.time()) * 1000))

    def renew(self, lease_ms: int) -> None:
        """Count anew from now."""
        self._timer.cancel()
        self._timer = self._set(lease_ms)

    def cancel(self) -> None:
        """The change was undone or replaced by somebody."""
        self._timer.cancel()

    def _set(self, lease_ms: int) -> asyncio.TimerHandle:
        return self._loop.call_later(lease_ms / 1000, self._undo)
