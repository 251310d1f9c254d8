"""Facts about the spans of a batch: identities, parents, links, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import ids
from app.delivery.effects import Finished
from app.delivery.events import About, Event
from app.delivery.spans import Spans, Times, context_of, log_fields
from app.errors import GatewayTimeout, Poison
from app.messages import Cause, OrderCancel, Output, deadletter, emit
from app.observability import trace_sdk, tracing
from app.settings_model import Settings
from app.topics import ORDER_CANCEL
from app.trace_context import span_id_of, span_of, trace_id_of

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ORDER = ids.uuid5("0" * 32, "order")
EVENT = ids.event_id(ORDER, "cancelled")
REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OPERATOR = "00-1bf7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
TIMES = Times(1_000, 2_000, 3_000)
SETTINGS = Settings(role="orchestrator")


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """What is recorded, at once."""
    kept = InMemorySpanExporter()
    recorder = trace_sdk.make_recorder({}, 1.0)
    recorder.provider.add_span_processor(SimpleSpanProcessor(kept))
    tracing.install(recorder)
    yield kept
    tracing.install(None)


def message(traceparent: str = REQUEST, event_id: str = EVENT, cause_id: str = ORDER) -> Output:
    """A message that a request or an event caused."""
    body = OrderCancel(order_id=ORDER)
    return emit(
        Cause(cause_id, "c", traceparent), ORDER_CANCEL, body, event_id=event_id, now=NOW,
        source="/x",
    )  # fmt: skip


def event_of(output: Output, delivery: int = 0) -> Event:
    """The event that a consumer reads."""
    record: Any = SimpleNamespace(
        topic=output.topic, partition=3, offset=7, timestamp=0, key=output.key,
        value=output.value, headers=tuple(output.headers),
    )  # fmt: skip
    headers = dict(output.headers)
    return Event(
        output.topic, 3, 7, ORDER.encode(), headers["ce_id"].decode(), "", None, delivery, delivery,
        "c", "", deadletter.traceparent_of(output.headers), record,
    )  # fmt: skip


def finished(event: Event, *outputs: Output, **more: Any) -> Finished:
    """What came of it."""
    return Finished(event.partition, event.key, event.event_id, outputs, **more)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The spans recorded so far."""
    return {span.name: span for span in exporter.get_finished_spans()}


def identity(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent is not None else ""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


def test_parent_and_child_meet_without_knowing_each_other(exporter: InMemorySpanExporter) -> None:
    """Processing hangs below the message, what it puts out below the processing."""
    came = message()
    event = event_of(came)
    out = message(event.traceparent, ids.event_id(EVENT, "next"), EVENT)
    Spans(SETTINGS, "orchestrator").batch(
        [event], [finished(event, out, about=About("CANCELLED", event.traceparent))], TIMES
    )
    spans = by_name(exporter)
    trace, processing, parent = identity(spans["process order.cancel"])
    assert (trace, parent) == (trace_id_of(REQUEST), span_of(EVENT))
    header = deadletter.traceparent_of(out.headers)
    assert identity(spans["send order.cancel"]) == (trace, span_id_of(header), processing)
    attributes = dict(spans["process order.cancel"].attributes or {})
    assert attributes["messaging.system"] == "kafka"
    assert attributes["messaging.operation.type"] == "process"
    assert attributes["messaging.destination.name"] == "order.cancel"
    assert attributes["messaging.destination.partition.id"] == "3"
    assert attributes["messaging.kafka.offset"] == 7
    assert attributes["messaging.consumer.group.name"] == "symphony-orchestrator"
    assert attributes["messaging.batch.message_count"] == 1
    assert attributes["symphony.order_id"] == ORDER
    assert attributes["symphony.saga_state"] == "CANCELLED"
    assert not spans["process order.cancel"].links


def test_a_repeat_after_a_crash_is_the_same_spans(exporter: InMemorySpanExporter) -> None:
    """Another worker, another time, the stored outputs: the same identities again."""
    event = event_of(message())
    out = message(event.traceparent, ids.event_id(EVENT, "next"), EVENT)
    for times in (TIMES, Times(9_000, 9_500, 9_900)):
        Spans(SETTINGS, "orchestrator").batch([event], [finished(event, out)], times)
    first, second, third, fourth = map(identity, exporter.get_finished_spans())
    assert {first, second} == {third, fourth}


def test_a_retried_event_keeps_its_header_and_its_tries_are_linked(
    exporter: InMemorySpanExporter,
) -> None:
    """The move has a span of its own, the error is told, and later tries follow the first."""
    event = event_of(message())
    moved = deadletter.retry(
        event.record, tier="retry.1s", role="orchestrator", error=GatewayTimeout("late"),
        attempt=1, due_at=NOW, now=NOW,
    )  # fmt: skip
    spans = Spans(SETTINGS, "orchestrator")
    spans.batch([event], [finished(event, moved, done=False)], TIMES)
    waited = event_of(moved).record
    again = event_of(deadletter.redeliver(waited), 1)
    assert again.traceparent == event.traceparent
    spans.batch([again], [finished(again)], TIMES)
    recorded = exporter.get_finished_spans()
    tries = [one for one in recorded if one.name == "process order.cancel"]
    (sent,) = [one for one in recorded if one.name == "send retry.1s"]
    assert identity(sent)[2] == identity(tries[0])[1]
    assert identity(sent)[1] != span_id_of(event.traceparent)
    assert (tries[0].attributes or {})["error.type"] == "gateway_timeout"
    assert tries[0].status.description == "gateway_timeout: late"
    assert identity(tries[1])[2] == identity(tries[0])[2]
    (link,) = tries[1].links
    assert f"{link.context.span_id:016x}" == identity(tries[0])[1]


def test_what_cannot_be_read_is_recorded_where_its_trace_can(
    exporter: InMemorySpanExporter,
) -> None:
    """A poison record's dead letter tells the trace; one with a bad context is left alone."""
    good = event_of(message()).record
    twice = SimpleNamespace(**vars(good))
    twice.headers = (*good.headers, ("traceparent", REQUEST.encode()))
    letters = [
        Finished(
            3, one.key, EVENT,
            (deadletter.dead_letter(one, topic="order.cancel.dlt", role="orchestrator",
                                    error=Poison("bad_json"), attempt=1, now=NOW),),
            done=False,
        )
        for one in (good, twice)
    ]  # fmt: skip
    Spans(SETTINGS, "orchestrator").letters(letters, TIMES)
    spans = by_name(exporter)
    assert spans.keys() == {"process order.cancel", "send order.cancel.dlt"}
    assert len(exporter.get_finished_spans()) == 2
    assert (spans["process order.cancel"].attributes or {})["error.type"] == "bad_json"


def test_an_operators_act_is_linked_to_the_orders_trace(exporter: InMemorySpanExporter) -> None:
    """His request is a trace of its own; what is about the order links to the order's."""
    event = event_of(message(OPERATOR))
    Spans(SETTINGS, "orchestrator").batch(
        [event], [finished(event, about=About("PAYMENT_PENDING", REQUEST))], TIMES
    )
    (span,) = exporter.get_finished_spans()
    (link,) = span.links
    assert identity(span)[0] == trace_id_of(OPERATOR)
    assert f"{link.context.trace_id:032x}" == trace_id_of(REQUEST)


def test_due_work_hangs_below_what_began_the_saga(exporter: InMemorySpanExporter) -> None:
    """A command that is sent again is a span of its own below the tick."""
    tick_id = ids.timeout_id(ORDER, "payment", 1)
    command = deadletter.redriven(message(REQUEST, EVENT, tick_id), 2)
    ticked = Finished(3, ORDER.encode(), tick_id, (command,), about=About("X", REQUEST))
    Spans(SETTINGS, "orchestrator").ticks([ticked], TIMES)
    spans = by_name(exporter)
    assert identity(spans["tick orchestrator"])[2] == span_id_of(REQUEST)
    _, sent, parent = identity(spans["send order.cancel"])
    assert parent == identity(spans["tick orchestrator"])[1]
    assert sent == span_id_of(deadletter.traceparent_of(command.headers)) != span_of(EVENT)


def test_what_others_put_out_is_not_told_again(exporter: InMemorySpanExporter) -> None:
    """Outputs of earlier events that go before an event's own are not its children."""
    event = event_of(message())
    other = message(REQUEST, ids.event_id(ORDER, "earlier"), ids.event_id(ORDER, "cause"))
    Spans(SETTINGS, "orchestrator").batch([event], [finished(event, other)], TIMES)
    assert by_name(exporter).keys() == {"process order.cancel"}


def test_an_unsampled_event_leaves_nothing(exporter: InMemorySpanExporter) -> None:
    """Not a span; its log fields name its trace all the same."""
    event = event_of(message(f"{REQUEST[:-2]}00"))
    Spans(SETTINGS, "orchestrator").batch([event], [finished(event)], TIMES)
    assert exporter.get_finished_spans() == ()
    fields = log_fields("x", event)
    assert (fields["trace_id"], fields["order_id"]) == (trace_id_of(REQUEST), ORDER)
    assert (fields["event_id"], fields["correlation_id"]) == (EVENT, "c")
    assert fields["span_id"] == span_id_of(context_of("x", event))
    assert context_of("x", event_of(message(REQUEST))) != context_of(
        "y", event_of(message(REQUEST))
    )
