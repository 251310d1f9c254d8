"""The move of an event that failed alone: to a retry tier, or to its dead letters.

Where it goes is decided by `app.delivery.failures`; here it becomes the records that take it there.
They are stored as the outputs of its inbox row, so a repeat publishes the very same move again.
What is logged and counted of a move has been committed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.db.inbox import Status
from app.delivery.events import Event, FailureNotices, MoveObserver
from app.delivery.failures import ToTier, next_move
from app.delivery.flood import FloodGate
from app.delivery.spans import log_fields
from app.errors import SymphonyError
from app.messages import deadletter
from app.messages.envelope import Output
from app.observability import exemplars, metrics
from app.observability.logging import get_log
from app.topics import dlt_of, retry_tier

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery.app import App

log = get_log(__name__)


class Moves:
    """Moves failed events of one consumer on, past its limit of dead letters never."""

    def __init__(self, app: App, name: str, handler: Any, flood: FloodGate) -> None:
        self._app = app
        self._name = name
        self._flood = flood
        self._notices = handler if isinstance(handler, FailureNotices) else None
        self._observer = handler if isinstance(handler, MoveObserver) else None

    def move(
        self, tx: Transaction, event: Event, error: SymphonyError
    ) -> tuple[Status, tuple[Output, ...]]:
        """Return the status of the event's inbox row, and the records that move the event.

        Counted when `tx` has happened. Raises Flooded when it would be one dead letter too many.
        """
        settings, now = self._app.settings, self._app.clock.now()
        move = next_move(
            error,
            event.attempt,
            tiers_s=settings.retry_tiers,
            attempts_max=settings.retry_attempts_max,
        )
        if isinstance(move, ToTier):
            return Status.RETRYING, self._to_tier(tx, event, error, move.delay_s, now)
        return Status.PARKED, self._to_dead_letters(tx, event, error, now)

    def _to_tier(
        self, tx: Transaction, event: Event, error: SymphonyError, delay_s: int, now: datetime
    ) -> tuple[Output, ...]:
        due_at = now + timedelta(seconds=delay_s)
        record = deadletter.retry(
            event.record,
            tier=retry_tier(delay_s).name,
            role=self._name,
            error=error,
            attempt=event.attempt + 1,
            due_at=due_at,
            now=now,
        )
        tx.after_commit(lambda: self._count_retry(event, error, delay_s, due_at))
        extra = self._notices.retrying(event, error, due_at, now) if self._notices else ()
        return (record, *extra)

    def _to_dead_letters(
        self, tx: Transaction, event: Event, error: SymphonyError, now: datetime
    ) -> tuple[Output, ...]:
        self._flood.admit((event.topic, event.partition, event.offset))
        tx.after_commit(lambda: self._count_dead_letter(event, error))
        letter = deadletter.dead_letter(
            event.record,
            topic=dlt_of(event.topic),
            role=self._name,
            error=error,
            attempt=event.attempt + 1,
            now=now,
        )
        extra = self._notices.parked(event, error, now) if self._notices else ()
        return (letter, *extra)

    def _count_retry(
        self, event: Event, error: SymphonyError, delay_s: int, due_at: datetime
    ) -> None:
        log.info(
            "event.retried",
            **log_fields(self._name, event),
            consumer=self._name,
            code=error.code,
            reason=error.detail,
            failures=event.attempt + 1,
            tier=f"{delay_s}s",
            due_at=due_at.isoformat(),
        )
        metrics.RETRIED.child(self._name, f"{delay_s}s").inc()
        if self._observer is not None:
            self._observer.moved(event, parked=False)

    def _count_dead_letter(self, event: Event, error: SymphonyError) -> None:
        log.warning(
            "event.dead_lettered",
            **log_fields(self._name, event),
            consumer=self._name,
            code=error.code,
            reason=error.detail,
            failures=event.attempt + 1,
        )
        metrics.DEAD_LETTERED.child(self._name, error.code).inc(
            exemplar=exemplars.of(event.traceparent)
        )
        if self._observer is not None:
            self._observer.moved(event, parked=True)
