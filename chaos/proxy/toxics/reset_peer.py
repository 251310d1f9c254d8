"""reset_peer: what comes first on the stream resets the connection, `timeout` milliseconds later.

Data or the end of the stream: an idle connection is reset when it is next used.
"""

from __future__ import annotations

from chaos.proxy.items import End, Item, size
from chaos.proxy.toxics.stage import Attributes, Milliseconds, Stage


class ResetPeerAttributes(Attributes, frozen=True):
    """In milliseconds since what came first."""

    timeout: Milliseconds = 0


class ResetPeer(Stage[ResetPeerAttributes]):
    """Drops what comes and resets both sides (TCP RST).

    On stream downstream that is a request which was served and never answered; on upstream one
    that never arrived.
    """

    kind = "reset_peer"
    attributes_type = ResetPeerAttributes

    _touched_at: float | None = None
    _over = False

    def take(self, item: Item, now: float) -> None:
        self.dropped += size(item)
        if self._touched_at is None:
            self._touched_at = now

    def due(self) -> float | None:
        if self._over or self._touched_at is None:
            return None
        return self._touched_at + self.attributes.timeout / 1000

    def release(self, now: float) -> Item:
        self._over = True
        return End.RESET

    def surrender(self) -> list[Item]:
        return [End.RESET] if self._touched_at is not None else []
