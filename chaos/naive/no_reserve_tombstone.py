"""Plug-in: inventory answers a release that comes before its reservation, and keeps nothing of it.

Cure removed: the tombstone that a compensation leaves where its command has not been yet.
Hurts when: the reservation is late (a retry tier, an old batch) and the order is cancelled
meanwhile.
Breaks: S3 (stock held for an order that has ended).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.db import inventory as stock_rows
from app.delivery import Applied, Event
from app.domain.inventory import decide
from app.messages import InventoryRelease
from chaos.naive.loud import handlers, replace, unsafe
from chaos.naive.tombstones import answer_apart

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


def install(app: App) -> None:
    """Have inventory keep no tombstones."""
    if unsafe(app, __name__, "the tombstone of a release", "inventory"):
        for handler in handlers(app):
            replace(handler, "apply", _without_tombstones(handler, handler.apply))


def _without_tombstones(handler: Any, apply: Any) -> Any:
    async def answer(tx: Transaction, events: Sequence[Event], now: datetime) -> list[Any]:
        """Extends the batch: a release without a reservation is answered and forgotten."""

        def forget(event: Event) -> Applied:
            decision = decide(None, {}, event.event_id, event.body, now)
            return Applied(handler._outputs(event, decision, now))

        known, _ = await stock_rows.lock(tx, {event.body.order_id for event in events}, ())
        return await answer_apart(
            events, known, InventoryRelease, forget, lambda rest: apply(tx, rest, now)
        )

    return answer
