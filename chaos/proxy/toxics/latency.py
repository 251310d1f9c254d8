"""latency: everything arrives `latency` +/- `jitter` milliseconds later."""

from __future__ import annotations

from collections import deque
from random import Random

from chaos.proxy.items import Item
from chaos.proxy.toxics.stage import Attributes, Milliseconds, Stage


class LatencyAttributes(Attributes, frozen=True):
    """Both in milliseconds. A delay that jitter makes negative is none."""

    latency: Milliseconds = 0
    jitter: Milliseconds = 0


class Latency(Stage[LatencyAttributes]):
    """Delays each chunk by an amount of its own; a late chunk makes those behind it wait."""

    kind = "latency"
    attributes_type = LatencyAttributes

    def __init__(self, attributes: LatencyAttributes, rng: Random, now: float) -> None:
        super().__init__(attributes, rng, now)
        self._draws: deque[float] = deque()

    def take(self, item: Item, now: float) -> None:
        self._draws.append(self._rng.uniform(-1.0, 1.0))
        super().take(item, now)

    def due(self) -> float | None:
        if not self._queue:
            return None
        delay_ms = self.attributes.latency + self._draws[0] * self.attributes.jitter
        return self._queue[0][0] + max(0.0, delay_ms) / 1000

    def release(self, now: float) -> Item:
        self._draws.popleft()
        return self._pop(now)
