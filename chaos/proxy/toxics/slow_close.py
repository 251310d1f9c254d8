"""slow_close: the end of the stream arrives `delay` milliseconds late; data are not touched."""

from __future__ import annotations

from chaos.proxy.toxics.stage import Attributes, Milliseconds, Stage


class SlowCloseAttributes(Attributes, frozen=True):
    """In milliseconds."""

    delay: Milliseconds = 0


class SlowClose(Stage[SlowCloseAttributes]):
    """Keeps back an end, of whatever kind."""

    kind = "slow_close"
    attributes_type = SlowCloseAttributes

    def due(self) -> float | None:
        if not self._queue:
            return None
        arrived = self._queue[0][0]
        return arrived if self._left_of_head() else arrived + self.attributes.delay / 1000
