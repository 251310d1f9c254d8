"""Plug-in: payment answers a refund that comes before its charge and keeps nothing of it, and the
orchestrator believes nothing about an order that has ended.

Cure removed: the tombstone that a compensation leaves where its command has not been yet, and what
stands behind it: the saga compensates a step that succeeds after its compensation. For charges
either is enough, so both are taken out.
Hurts when: the charge is late (a retry tier, an old batch) and the order is cancelled meanwhile.
Breaks: P3 (money kept of a cancelled order), P4 (the bank holds too much).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.db import payments
from app.delivery import Event
from app.domain import payment as domain
from app.domain import results
from app.domain.decision import Ignored
from app.messages import PaymentRefund
from chaos.naive.loud import handlers, replace, unsafe
from chaos.naive.tombstones import answer_apart

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


def install(app: App) -> None:
    """Have payment keep no tombstones, and the saga not look twice."""
    if unsafe(app, __name__, "the tombstone of a refund", "payment"):
        for handler in handlers(app):
            replace(handler, "begin", _without_tombstones(handler, handler.begin))
    if unsafe(app, __name__, "the compensation of a late success", "orchestrator"):
        replace(results, "_late_success", lambda *_: Ignored("stale"))


def _without_tombstones(handler: Any, begin: Any) -> Any:
    async def answer(tx: Transaction, events: Sequence[Event], now: datetime) -> list[Any]:
        """Extends the first half: a refund without a charge is answered and forgotten."""

        def forget(event: Event) -> Any:
            decision = domain.begin(None, event.event_id, event.body, now)
            return handler._answer(event, decision, now)

        known = await payments.lock(tx, {event.body.order_id for event in events})
        return await answer_apart(
            events, known, PaymentRefund, forget, lambda rest: begin(tx, rest, now)
        )

    return answer
