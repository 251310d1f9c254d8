"""Role slo: counts what the service level objectives are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.delivery import Applied, Event, consume
from app.observability import metrics
from app.slo.outcomes import OUTCOMES, is_available
from app.topics import ORDER_STATUS_CHANGED

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App

NAME = "slo"


class Outcomes:
    """Counts outcomes of orders, good and bad; commutative, each event once."""

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Count those that are outcomes."""
        for event in events:
            if event.body.status in OUTCOMES:
                good = is_available(event.body.status, event.body.reason)
                metrics.SLO_EVENTS.child("availability", "good" if good else "bad").inc()
        return [Applied()] * len(events)


def register(app: App) -> None:
    """Declare the agent."""
    consume(app, name=NAME, topics=(ORDER_STATUS_CHANGED,), handler=Outcomes())
