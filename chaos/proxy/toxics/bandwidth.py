"""bandwidth: `rate` kilobytes (1,000 bytes) a second pass; with rate 0 nothing does."""

from __future__ import annotations

from chaos.proxy.items import Item
from chaos.proxy.toxics.stage import Attributes, Count, Stage

_PIECE_S = 0.1


class BandwidthAttributes(Attributes, frozen=True):
    """In KB/s, each direction of each connection for itself."""

    rate: Count = 0


class Bandwidth(Stage[BandwidthAttributes]):
    """A line of limited rate; large chunks pass in pieces of a tenth of a second.

    With rate 0 everything is kept, the end of the stream too, and passes when the toxic goes: a
    network that is cut and comes back. Once its buffers are full the sender is not read any more.
    """

    kind = "bandwidth"
    attributes_type = BandwidthAttributes

    _free_at = float("-inf")

    def due(self) -> float | None:
        rate = self.attributes.rate
        if not self._queue or not rate:
            return None
        start = max(self._free_at, self._queue[0][0])
        return start + self._piece() / (rate * 1000)

    def release(self, now: float) -> Item:
        due = self.due()
        assert due is not None
        self._free_at = due
        piece = self._piece()
        return self._cut(piece, now) if piece else self._pop(now)

    def change(self, attributes: BandwidthAttributes, now: float) -> None:
        self._free_at = now
        super().change(attributes, now)

    def _piece(self) -> int:
        return min(self._left_of_head(), max(1, int(self.attributes.rate * 1000 * _PIECE_S)))
