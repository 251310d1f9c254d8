"""What a saga decision is made of: the events it takes and the answers it gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from app import ids
from app.domain.definition import Commanded, State
from app.domain.record import Saga
from app.messages.orders import OrderStatusChanged


class StepTimedOut(msgspec.Struct, frozen=True):
    """Timer number `timer` of an order, set for `step`, is due."""

    order_id: str
    step: str
    timer: int


class SagaEvent(Protocol):
    """What `decide` needs of an event: a consumed record's, or `Incoming`."""

    @property
    def event_id(self) -> str:
        """The event's id, the cause of what follows from it."""

    @property
    def body(self) -> Any:
        """OrderCreated, OrderCancel, OrderReviewed, OrderOperate, StepTimedOut or a result."""

    @property
    def correlation_id(self) -> str:
        """The correlation id; the creation's is kept by the saga."""

    @property
    def traceparent(self) -> str:
        """The trace context; the creation's is kept by the saga."""

    @property
    def tracestate(self) -> str:
        """What vendors have put beside the trace context."""


class Incoming(NamedTuple):
    """An event that is not a consumed record."""

    event_id: str
    body: Any
    correlation_id: str = ""
    traceparent: str = ""
    tracestate: str = ""


class Command(NamedTuple):
    """A command to send: its deterministic id, its topic's name and its body."""

    command_id: str
    topic: str
    body: Commanded


class Transition(NamedTuple):
    """One line of the order's history; `source` is None for the first, equal states are notes."""

    event: str
    source: State | None
    target: State
    reason: str
    cause_id: str
    at: datetime


class Applied(NamedTuple):
    """The next record, the commands to send in order, the history to append in order."""

    saga: Saga
    commands: tuple[Command, ...]
    transitions: tuple[Transition, ...]


class Ignored(NamedTuple):
    """Nothing changes: a duplicate, a stale reply, a timer that no longer counts."""

    reason: str


class Illegal(NamedTuple):
    """Nothing changes: the event is impossible here and must be parked, with an alert."""

    reason: str


Decision = Applied | Ignored | Illegal


def next_due(saga: Saga) -> datetime | None:
    """Return when somebody must act on this saga, None when nothing is scheduled."""
    return saga.due


def timeout(saga: Saga) -> Incoming:
    """Return the timer event to feed to `decide` once `next_due` has come.

    Its id depends on the order, the step and the timer's number only, so it is the same wherever
    and how often the timer fires. Raises ValueError when nothing is scheduled.
    """
    index = saga.current()
    if saga.due is None or index is None:
        raise ValueError("no timer is set")
    step = saga.plan.steps[index].name
    return Incoming(
        ids.timeout_id(saga.order_id, step, saga.timer),
        StepTimedOut(saga.order_id, step, saga.timer),
        saga.correlation_id,
        saga.traceparent,
    )


def status_changes(applied: Applied) -> tuple[OrderStatusChanged, ...]:
    """Return the `order.status_changed` bodies of a decision, one per change of state.

    Intermediate states of one decision are told as well; the last carries the saga's version.
    """
    return tuple(
        OrderStatusChanged(
            order_id=applied.saga.order_id,
            status=transition.target,
            reason=transition.reason,
            saga_version=applied.saga.version,
            created_at=applied.saga.ordered_at,
            held=applied.saga.review,
        )
        for transition in applied.transitions
        if transition.source is not transition.target
    )
