"""Plug-in: the relay deletes outbox rows when it has read them, and publishes them then.

Cure removed: delete after the broker's acknowledgement.
Hurts when: the relay dies in between.
Breaks: X1 (the event is nowhere), O4 (its order never moves).
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING

from app.db import outbox
from app.failpoints import failpoint
from app.relay import relay
from app.relay.refusals import Refused
from app.relay.rounds import Rounds
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App


class DeleteThenPublish(Rounds):
    """At most once: what was read is gone, whatever becomes of it."""

    async def _round(self, epochs: Mapping[int, int]) -> int:
        """Replaces read, publish, delete by read, delete, publish."""
        held = self._refusals.held(monotonic())
        rows = await outbox.read(self._db, list(epochs), self._batch_max, held)
        if not rows:
            return 0
        await self._delete(epochs, rows, ())
        await failpoint("relay.before_publish")
        refused: list[Refused] = []
        await self._publish(rows, refused)
        return len(rows)


def install(app: App) -> None:
    """Give the relay rounds that delete first."""
    if unsafe(app, __name__, "delete after acknowledgement", "relay"):
        replace(relay, "Rounds", DeleteThenPublish)
