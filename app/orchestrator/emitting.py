"""What a decision on a saga puts out: commands, changes of the order's status, and counts.

Ids are derived from the causes, so the same decision puts out the same messages wherever and how
often it is made. Counted is what was committed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from app import ids
from app.control.canary import Split
from app.domain.decision import Applied, SagaEvent, status_changes
from app.domain.operations import OPERATED
from app.messages import Cause, Output, emit
from app.messages.deadletter import redriven
from app.observability import exemplars, metrics
from app.topics import (
    CATALOGUE,
    ORDER_STATUS_CHANGED,
    PAYMENT_REQUESTED,
    PAYMENT_REQUESTED_CANARY,
    TopicSpec,
)

if TYPE_CHECKING:
    from app.db.engine import Transaction


class Emitter:
    """Turns decisions into the outputs of one source."""

    def __init__(self, source: str, split: Split) -> None:
        """`split` says which orders' charges go to the canary."""
        self._source = source
        self._split = split

    def outputs(
        self, tx: Transaction, event: SagaEvent, decision: Applied, now: datetime
    ) -> tuple[Output, ...]:
        """Commands under their own ids, then what the order's status became; counted when `tx` has
        happened.

        A command that is sent again says so: its participant may have dead-lettered it, and must
        then try anew and not repeat that it failed.
        """
        saga = decision.saga
        cause = Cause(
            event.event_id,
            saga.correlation_id,
            event.traceparent or saga.traceparent,
            event.tracestate,
        )
        outputs = [
            emit(
                cause,
                self._topic_of(command.topic, saga.order_id),
                command.body,
                event_id=command.command_id,
                now=now,
                source=self._source,
            )
            for command in decision.commands
        ]
        if saga.redrives:
            outputs = [redriven(output, saga.redrives) for output in outputs]
        for number, body in enumerate(status_changes(decision)):
            identity = ids.event_id(event.event_id, f"order.status_changed:{number}")
            outputs.append(
                emit(
                    cause,
                    ORDER_STATUS_CHANGED,
                    body,
                    event_id=identity,
                    now=now,
                    source=self._source,
                )
            )
        tx.after_commit(lambda: count(decision, now, cause.traceparent))
        return tuple(outputs)

    def _topic_of(self, name: str, order_id: str) -> TopicSpec:
        """A charge goes to the order's arm as it is now: a re-drive after a rollback to stable."""
        if name == PAYMENT_REQUESTED.name and self._split.is_canary(order_id):
            return PAYMENT_REQUESTED_CANARY
        return CATALOGUE[name]


def count(decision: Applied, now: datetime, traceparent: str) -> None:
    """Count a committed decision: sagas started and finished, changes of state, operations."""
    saga = decision.saga
    if saga.version == 1:
        metrics.SAGA_STARTED.child().inc()
    for line in decision.transitions:
        if line.event in OPERATED:
            metrics.SAGA_OPERATIONS.child(line.event).inc()
        if line.source is line.target:
            continue
        if line.source is not None:
            metrics.SAGA_TRANSITIONS.child(line.source, line.target).inc()
        if saga.final and line.target is saga.state:
            metrics.SAGA_FINISHED.child(saga.state, saga.reason).inc()
            if saga.started_at is not None and line.source is not None:
                lasted_s = (now - saga.started_at).total_seconds()
                trace = exemplars.of(traceparent)
                metrics.SAGA_SECONDS.child(saga.state).observe(max(0.0, lasted_s), trace)
