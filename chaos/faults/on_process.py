"""Faults of a worker's process: memory_leak, cpu_burn. Both are bounded and end with their rule."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from chaos.faults.kind import Base

if TYPE_CHECKING:
    from app.delivery import App
    from chaos.control.hits import Hits
    from chaos.control.rule import Rule

MEGABYTE = 1024 * 1024
LEAK_LOOK_S = 0.2
BURN_PERIOD_S = 0.02
"""Short, so that whoever ends the fault gets its turn fifty times a second."""


class LeakParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`mb_per_s`: how fast it grows; `cap_mb`: where it stops (MB of 2**20 bytes)."""

    mb_per_s: Annotated[float, Meta(gt=0, le=200)] = 10.0
    cap_mb: Annotated[int, Meta(ge=1, le=1024)] = 128


class MemoryLeak(Base[LeakParams]):
    """The process takes memory and keeps it until the fault ends."""

    params = LeakParams
    _task: asyncio.Task[None] | None = None

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._kept: list[bytearray] = []

    @property
    def kept_mb(self) -> float:
        """How much it keeps now."""
        return sum(map(len, self._kept)) / MEGABYTE

    def _attach(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._leak(), name="memory_leak")

    def _detach(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._kept.clear()

    async def _leak(self) -> None:
        number = 0
        while (room_mb := self.p.cap_mb - self.kept_mb) > 0:
            number += 1
            if self.hits.strikes(key=self.worker, attempt=number, place="memory"):
                size_mb = min(self.p.mb_per_s * LEAK_LOOK_S, room_mb)
                # written to, so that it is resident
                self._kept.append(bytearray(b"\x01") * max(1, round(size_mb * MEGABYTE)))
            await asyncio.sleep(LEAK_LOOK_S)


class BurnParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`share`: of one core; `seconds`: it ends by itself then."""

    share: Annotated[float, Meta(gt=0, le=0.9)] = 0.5
    seconds: Annotated[float, Meta(gt=0, le=300)] = 30.0


class CpuBurn(Base[BurnParams]):
    """A thread of the process computes, and takes the interpreter from everything else in it."""

    params = BurnParams

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._enough = threading.Event()

    def _attach(self) -> None:
        if not self.hits.strikes(key=self.worker, place="cpu"):
            return
        self._enough = threading.Event()
        burn = threading.Thread(target=self._burn, args=(self._enough,), daemon=True)
        burn.name = "cpu_burn"
        burn.start()

    def _detach(self) -> None:
        self._enough.set()

    def _burn(self, enough: threading.Event) -> None:
        until = time.monotonic() + self.p.seconds
        while not enough.is_set() and (now := time.monotonic()) < until:
            stop = now + BURN_PERIOD_S * self.p.share
            while time.monotonic() < stop:
                pass
            enough.wait(BURN_PERIOD_S * (1 - self.p.share))
