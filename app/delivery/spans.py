"""Spans of what a consumer does, recorded once a batch is finished.

A processing span per sampled event, below the span of its message; below it a span for everything
it put out: under a message's own identity when it is new, under a derived one when it is the same
message that was moved (retry tier, dead letter, back again). A batch's events share its times. The
identities are derived, so what a dead worker left to its successor is the same span again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from app import trace_context
from app.messages import deadletter
from app.observability import tracing
from app.observability.messaging import attributes_of, order_of, record_send
from app.observability.tracing import SpanKind

if TYPE_CHECKING:
    from app.delivery.effects import Finished
    from app.delivery.events import Event
    from app.settings import Settings


class Times(NamedTuple):
    """When a batch began, when its outputs were sent, and when all was acknowledged, in ns."""

    began: int
    sent: int
    ended: int


def context_of(consumer: str, event: Event) -> str:
    """Return the context in which `consumer` processes `event`, empty without a trace."""
    if not event.traceparent:
        return ""
    span_id = trace_context.processing_span(consumer, event.event_id, event.delivery)
    return trace_context.child(event.traceparent, span_id)


def log_fields(consumer: str, event: Event) -> dict[str, Any]:
    """Return what every log record says that `consumer` writes about `event`."""
    fields: dict[str, Any] = {
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "event_id": event.event_id,
        "attempt": event.attempt,
        "order_id": order_of(event.key),
        "correlation_id": event.correlation_id,
        "trace_id": trace_context.trace_id_of(event.traceparent),
        "span_id": trace_context.span_id_of(context_of(consumer, event)),
    }
    return {name: value for name, value in fields.items() if value != ""}


class Spans:
    """Records for one consumer; every method returns at once while nothing is to be recorded."""

    def __init__(self, settings: Settings, consumer: str) -> None:
        self._consumer = consumer
        self._fixed = {
            tracing.GROUP: f"{settings.namespace}-{settings.role}",
            tracing.CONSUMER: consumer,
            tracing.OPERATION: "process",
        }

    def batch(self, events: Sequence[Event], finished: Sequence[Finished], times: Times) -> None:
        """Record a batch's sampled events and what came of them."""
        if not tracing.on():
            return
        sampled = [event for event in events if trace_context.is_sampled(event.traceparent)]
        by_id = {one.event_id: one for one in finished} if sampled else {}
        for event in sampled:
            if event.event_id in by_id:
                self._event(event, by_id[event.event_id], len(events), times)

    def letters(self, letters: Sequence[Finished], times: Times) -> None:
        """Record dead letters of records that no handler saw, where their trace can be read."""
        if not tracing.on():
            return
        for one in letters:
            letter = one.outputs[0]
            context = deadletter.traceparent_of(letter.headers)
            if trace_context.is_sampled(context):
                failure = deadletter.read_failure(letter.headers)
                own = self._own(context, one.event_id)
                attributes = attributes_of(failure.original_topic, one.partition, letter.key)
                tracing.record(
                    f"process {failure.original_topic}",
                    own,
                    parent=trace_context.span_id_of(context),
                    kind=SpanKind.CONSUMER,
                    start_ns=times.began,
                    end_ns=times.ended,
                    attributes={**attributes, **self._fixed},
                    error=failure.error_reason or failure.error_class,
                    message=failure.error_message,
                )
                self._sent(own, context, one, times)

    def ticks(self, ticked: Sequence[Finished], times: Times) -> None:
        """Record due work, below the context that it names."""
        if not tracing.on():
            return
        for one in ticked:
            context = one.about.traceparent
            if one.event_id and trace_context.is_sampled(context):
                own = self._own(context, one.event_id)
                tracing.record(
                    f"tick {self._consumer}",
                    own,
                    parent=trace_context.span_id_of(context),
                    kind=SpanKind.INTERNAL,
                    start_ns=times.began,
                    end_ns=times.ended,
                    attributes={
                        tracing.CONSUMER: self._consumer,
                        tracing.EVENT_ID: one.event_id,
                        tracing.ORDER_ID: order_of(one.key),
                        tracing.SAGA_STATE: one.about.state,
                    },
                )
                self._sent(own, context, one, times)

    def _event(self, event: Event, one: Finished, batch_size: int, times: Times) -> None:
        own = context_of(self._consumer, event)
        attributes = {
            **attributes_of(event.topic, event.partition, event.key),
            **self._fixed,
            tracing.OFFSET: event.offset,
            tracing.BATCH_SIZE: batch_size,
            tracing.MESSAGE_ID: event.event_id,
            tracing.EVENT_ID: event.event_id,
            tracing.ATTEMPT: event.attempt,
        }
        if one.about.state:
            attributes[tracing.SAGA_STATE] = one.about.state
        error = message = ""
        if not one.done and one.outputs:
            failure = deadletter.read_failure(one.outputs[0].headers)
            error, message = failure.error_class, failure.error_message
        tracing.record(
            f"process {event.topic}",
            own,
            parent=trace_context.span_id_of(event.traceparent),
            kind=SpanKind.CONSUMER,
            start_ns=times.began,
            end_ns=times.ended,
            attributes=attributes,
            links=list(self._links(event, one)),
            error=error,
            message=message,
        )
        self._sent(own, event.traceparent, one, times)

    def _links(self, event: Event, one: Finished) -> Iterator[str]:
        """The first delivery of a later one; the subject's own trace where another acts on it."""
        if event.delivery:
            yield self._own(event.traceparent, event.event_id)
        other = one.about.traceparent
        trace_id = trace_context.trace_id_of(event.traceparent)
        if other and trace_context.trace_id_of(other) != trace_id:
            yield other

    def _sent(self, parent: str, cause: str, one: Finished, times: Times) -> None:
        """Record what was put out: messages that this event caused, and its own record moved on.

        Others among the outputs are repeats of what earlier events put out.
        """
        for output in one.outputs:
            context = deadletter.traceparent_of(output.headers)
            extra: dict[str, Any] = {}
            if context == cause:
                failure = deadletter.read_failure(output.headers)
                moved = f"move\0{trace_context.span_id_of(parent)}"
                context = trace_context.child(parent, trace_context.span_of(output.topic, moved))
                extra[tracing.ATTEMPT] = failure.attempt
                if failure.due_at is not None:
                    extra[tracing.DUE_AT] = failure.due_at.isoformat()
            elif dict(output.headers).get("ce_causationid") != one.event_id.encode():
                continue
            record_send(
                output, context, parent, start_ns=times.sent, end_ns=times.ended, extra=extra
            )

    def _own(self, context: str, event_id: str) -> str:
        """The context of the first delivery's processing."""
        span_id = trace_context.processing_span(self._consumer, event_id, 0)
        return trace_context.child(context, span_id)
