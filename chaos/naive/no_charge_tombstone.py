"""Plug-in: payment answers a refund that comes before its charge, and keeps nothing of it.

Cure removed: the tombstone that a compensation leaves where its command has not been yet.
Hurts when: the charge is late (a retry tier, an old batch) and the order is cancelled meanwhile.
Breaks: P3 (money kept of a cancelled order), P4 (the bank holds too much).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agents.payment import Payments
from app.db import payments
from app.delivery import Applied, Call, Event, Retry
from app.domain import payment as domain
from app.messages import PaymentRefund
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


class WithoutTombstone(Payments):
    """Nothing to undo, so nothing to remember."""

    async def begin(
        self, tx: Transaction, events: Sequence[Event], now: datetime
    ) -> list[Applied | Call | Retry]:
        """Extends the first half: a refund without a charge is answered and forgotten."""
        refunds = {e.body.order_id for e in events if isinstance(e.body, PaymentRefund)}
        charges = {e.body.order_id for e in events} - refunds
        known = await payments.lock(tx, refunds)
        early = [
            event.body.order_id not in known
            and event.body.order_id not in charges
            and isinstance(event.body, PaymentRefund)
            for event in events
        ]
        rest = [event for event, is_early in zip(events, early, strict=True) if not is_early]
        begun = iter(await super().begin(tx, rest, now))
        return [
            self._answer(event, domain.begin(None, event.event_id, event.body, now), now)
            if is_early
            else next(begun)
            for event, is_early in zip(events, early, strict=True)
        ]


def install(app: App) -> None:
    """Have payment keep no tombstones."""
    if unsafe(app, __name__, "the tombstone of a refund", "payment"):
        for runner in app.runners:
            runner.spec.handler.__class__ = WithoutTombstone
