"""limit_data: the connection is closed after `bytes` bytes."""

from __future__ import annotations

from chaos.proxy.items import End, Item, size
from chaos.proxy.toxics.stage import Attributes, Count, Stage


class LimitDataAttributes(Attributes, frozen=True):
    """Counted since the toxic got hold of the connection."""

    bytes: Count = 0


class LimitData(Stage[LimitDataAttributes]):
    """Lets exactly that many bytes pass and closes; with 0 the first byte closes."""

    kind = "limit_data"
    attributes_type = LimitDataAttributes

    _passed = 0
    _over = False

    def take(self, item: Item, now: float) -> None:
        if self._over:
            self.dropped += size(item)
            return
        if isinstance(item, End):
            super().take(item, now)
            return
        room = max(0, self.attributes.bytes - self._passed)
        if head := item[:room]:
            super().take(head, now)
        self._passed += len(head)
        self.dropped += len(item) - len(head)
        if self._passed >= self.attributes.bytes:
            self._over = True
            super().take(End.CLOSE, now)

    def due(self) -> float | None:
        return self._queue[0][0] if self._queue else None
