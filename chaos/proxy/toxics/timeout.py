"""timeout: data are dropped, and the connection is closed after `timeout` milliseconds.

With timeout 0 it is never closed: a black hole, and on one stream alone a half-open connection.
"""

from __future__ import annotations

from chaos.proxy.items import End, Item, size
from chaos.proxy.toxics.stage import Attributes, Milliseconds, Stage


class TimeoutAttributes(Attributes, frozen=True):
    """In milliseconds since the toxic got hold of the connection."""

    timeout: Milliseconds = 0


class Timeout(Stage[TimeoutAttributes]):
    """Swallows data and the sender's end alike: whoever is behind it hears nothing at all.

    When the toxic goes the connection is closed, because a stream with a hole is none.
    """

    kind = "timeout"
    attributes_type = TimeoutAttributes

    _over = False

    def take(self, item: Item, now: float) -> None:
        if item in (End.CLOSE, End.RESET):
            super().take(item, now)
        else:
            self.dropped += size(item)

    def due(self) -> float | None:
        if self._queue:
            return self._queue[0][0]
        if self._over or not self.attributes.timeout:
            return None
        return self._started + self.attributes.timeout / 1000

    def release(self, now: float) -> Item:
        if self._queue:
            return self._pop(now)
        self._over = True
        return End.CLOSE

    def change(self, attributes: TimeoutAttributes, now: float) -> None:
        self._started = now
        super().change(attributes, now)

    def surrender(self) -> list[Item]:
        return [*super().surrender(), End.CLOSE]
