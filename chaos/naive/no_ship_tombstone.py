"""Plug-in: shipping answers a cancel that comes before its command, and keeps nothing of it.

Cure removed: the tombstone that a compensation leaves where its command has not been yet.
Hurts when: the command is late (a retry tier, an old batch) and the order is cancelled meanwhile.
Breaks: H1 (a shipment of an order that has ended).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agents.shipping import Shipping
from app.db import shipping as shipments
from app.delivery import Applied, Event
from app.domain.shipping import decide
from app.messages import ShippingRequested, ShippingResult
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


class WithoutTombstone(Shipping):
    """Nothing to undo, so nothing to remember."""

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Extends the batch: a cancel without a shipment is answered and forgotten."""
        asked = {e.body.order_id for e in events if isinstance(e.body, ShippingRequested)}
        cancelled = {e.body.order_id for e in events} - asked
        known = await shipments.lock(tx, cancelled)
        early = [
            event.body.order_id in cancelled and event.body.order_id not in known
            for event in events
        ]
        rest = [event for event, is_early in zip(events, early, strict=True) if not is_early]
        applied = iter(await super().apply(tx, rest, now))
        return [
            Applied((self._result(event, self._nothing(event, now), now),))
            if is_early
            else next(applied)
            for event, is_early in zip(events, early, strict=True)
        ]

    def _nothing(self, event: Event, now: datetime) -> ShippingResult:
        return decide(None, event.event_id, event.body, now).result


def install(app: App) -> None:
    """Have shipping keep no tombstones."""
    if unsafe(app, __name__, "the tombstone of a cancel", "shipping"):
        for runner in app.runners:
            runner.spec.handler.__class__ = WithoutTombstone
