"""Plug-in: inventory answers a release that comes before its reservation, and keeps nothing of it.

Cure removed: the tombstone that a compensation leaves where its command has not been yet.
Hurts when: the reservation is late (a retry tier, an old batch) and the order is cancelled
meanwhile.
Breaks: S3 (stock held for an order that has ended).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agents.inventory import Inventory
from app.db import inventory as stock_rows
from app.delivery import Applied, Event
from app.domain.inventory import decide
from app.messages import InventoryRelease, InventoryRequested
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


class WithoutTombstone(Inventory):
    """Nothing to undo, so nothing to remember."""

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Extends the batch: a release without a reservation is answered and forgotten."""
        asked = {e.body.order_id for e in events if isinstance(e.body, InventoryRequested)}
        releases = {e.body.order_id for e in events if isinstance(e.body, InventoryRelease)}
        known, _ = await stock_rows.lock(tx, releases, ())
        early = [
            isinstance(event.body, InventoryRelease)
            and event.body.order_id not in known
            and event.body.order_id not in asked
            for event in events
        ]
        rest = [event for event, is_early in zip(events, early, strict=True) if not is_early]
        applied = iter(await super().apply(tx, rest, now))
        return [
            Applied(self._outputs(event, decide(None, {}, event.event_id, event.body, now), now))
            if is_early
            else next(applied)
            for event, is_early in zip(events, early, strict=True)
        ]


def install(app: App) -> None:
    """Have inventory keep no tombstones."""
    if unsafe(app, __name__, "the tombstone of a release", "inventory"):
        for runner in app.runners:
            runner.spec.handler.__class__ = WithoutTombstone
