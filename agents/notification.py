"""Role notification: tells customers and operators what happened, once per subject, kind and
occurrence.

The sink is a third party: what is about to be told is recorded first, then handed over, then
recorded as sent. A crash in between hands it over again under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.db import notifications
from app.delivery import Applied, Call, Event, Reply, Retry, consume
from app.domain.notification import Message, Notice, is_told, notice_of
from app.errors import SymphonyError
from app.messages.deadletter import read_failure
from app.notification.sink import Sink, sink_of
from app.observability import metrics
from app.topics import (
    API_RATE_LIMITED,
    CHAOS_INJECTED,
    INVENTORY_RESULT,
    ORDER_CANCEL,
    ORDER_CREATED,
    ORDER_REVIEWED,
    ORDER_STATUS_CHANGED,
    PAYMENT_RESULT,
    SHIPPING_RESULT,
    STOCK_LOW,
)

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App

NAME = "notification"


class Notifications:
    """Notifications of business, chaos and limit events; commutative, once per subject, kind and
    occurrence."""

    def __init__(self, sink: Sink, delay_ms: int = 0) -> None:
        """`delay_ms` makes every hand-over slow, to see a backlog grow."""
        self._sink = sink
        self._delay_s = delay_ms / 1000

    def concerns(self, event: Event) -> bool:
        """Whether anything is told of it: of most steps of an order, nothing is."""
        return is_told(event.body)

    async def begin(
        self, tx: Transaction, events: Sequence[Event], now: datetime
    ) -> list[Applied | Call | Retry]:
        """Record what is to be told; an event whose notification is another's tells nothing."""
        told = [notice_of(event.body) for event in events]
        wanted: dict[str, tuple[Notice, str]] = {}
        for event, notice in zip(events, told, strict=True):
            if notice is not None:
                wanted.setdefault(notice.id, (notice, event.event_id))
        known = await notifications.claim(tx, wanted, now)
        return [
            self._begun(tx, event, notice, known)
            for event, notice in zip(events, told, strict=True)
        ]

    def _begun(
        self,
        tx: Transaction,
        event: Event,
        notice: Notice | None,
        known: dict[str, notifications.Known],
    ) -> Applied | Call:
        if notice is None:
            return Applied()
        recorded = known[notice.id]
        if recorded.status == notifications.SENT or recorded.event_id != event.event_id:
            tx.after_commit(metrics.NOTIFICATIONS.child(notice.kind, "repeated").inc)
            return Applied()
        return Call(Message(*notice, at=_happened_at(event)))

    async def call(self, message: Message) -> Message:
        """Hand one over. Raises app.errors.Indefinite when the sink may not have it."""
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._sink.hand_over(message)
        return message

    async def complete(
        self, tx: Transaction, replies: Sequence[Reply], now: datetime
    ) -> list[Applied | Retry]:
        """Record what the sink has taken; the rest is tried again through the retry tiers."""
        taken = [reply.request for reply in replies if not isinstance(reply.result, SymphonyError)]
        if taken:
            notifications.sent(tx, taken, now)
            tx.after_commit(lambda: _count_sent(taken, now))
        return [
            Retry(reply.result) if isinstance(reply.result, SymphonyError) else Applied()
            for reply in replies
        ]


def _happened_at(event: Event) -> datetime:
    """When the broker took the event: at a repeat through a retry tier as well."""
    first_ms = read_failure(event.record.headers).original_timestamp_ms if event.delivery else 0
    return datetime.fromtimestamp((first_ms or event.record.timestamp) / 1000, UTC)


def _count_sent(taken: Sequence[Message], now: datetime) -> None:
    for message in taken:
        metrics.NOTIFICATIONS.child(message.kind, "sent").inc()
        metrics.NOTIFICATION_LAG.child().observe(max(0.0, (now - message.at).total_seconds()))


def register(app: App) -> None:
    """Declare the agent."""
    settings = app.settings
    consume(
        app,
        name=NAME,
        topics=(
            ORDER_CREATED,
            ORDER_REVIEWED,
            ORDER_CANCEL,
            PAYMENT_RESULT,
            INVENTORY_RESULT,
            SHIPPING_RESULT,
            ORDER_STATUS_CHANGED,
            STOCK_LOW,
            CHAOS_INJECTED,
            API_RATE_LIMITED,
        ),
        handler=Notifications(sink_of(settings), settings.notification_delay_ms),
    )
