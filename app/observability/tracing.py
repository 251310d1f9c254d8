"""Traces: spans of what happens to an order, recorded when they are over.

The code speaks the OpenTelemetry API; the SDK is loaded and wired by `start` only, and only when
the setting `trace_exporter` asks for it. Until then `on()` is False, nothing is recorded and a
sampled trace merely passes through. A span is recorded with the identity that its context says:
those of messages and of their processing are derived (`app.trace_context`), so a repeat after a
crash is the same span again. Recording never waits and never fails.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time_ns
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from app import trace_context

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from app.observability.trace_sdk import Recorder
    from app.settings import Settings

__all__ = [
    "SpanKind",
    "begin",
    "current",
    "current_trace_id",
    "on",
    "record",
    "start",
    "stop",
    "wants",
    "within",
]

SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
PARTITION: Final = "messaging.destination.partition.id"
OFFSET: Final = "messaging.kafka.offset"
GROUP: Final = "messaging.consumer.group.name"
BATCH_SIZE: Final = "messaging.batch.message_count"
MESSAGE_ID: Final = "messaging.message.id"
ERROR_TYPE: Final = "error.type"
ORDER_ID: Final = "symphony.order_id"
EVENT_ID: Final = "symphony.event_id"
CONSUMER: Final = "symphony.consumer"
ATTEMPT: Final = "symphony.attempt"
REDRIVES: Final = "symphony.redrives"
SAGA_STATE: Final = "symphony.saga_state"
DUE_AT: Final = "symphony.due_at"

Attributes = Mapping[str, "AttributeValue"]

now_ns = time_ns
_recorder: Recorder | None = None


def start(settings: Settings) -> None:
    """Record from now on as the settings want it; nothing when they want nothing.

    Once a process. Raises InvalidSettings for a directory that cannot be written.
    """
    if settings.trace_exporter != "none":
        from app.observability import trace_sdk  # the SDK costs start-up time and memory

        install(trace_sdk.recorder_of(settings))


def install(recorder: Recorder | None) -> None:
    """Record by `recorder` from now on; None: no more."""
    global _recorder  # noqa: PLW0603  # one process, one recorder, as OpenTelemetry has it
    _recorder = recorder


def stop() -> None:
    """Hand on what is recorded, for a bounded time, and record no more."""
    recorder = _recorder
    install(None)
    if recorder is not None:
        recorder.close()


def on() -> bool:
    """Whether anything may be recorded in this process."""
    return _recorder is not None


def wants(traceparent: str) -> bool:
    """Whether spans of this trace are recorded here."""
    return _recorder is not None and trace_context.is_sampled(traceparent)


def begin(given: str = "", *, trace_id: str = "") -> str:
    """Return the context of a span that begins here: in the trace `given`, else in a new one.

    A new trace is sampled by the setting `trace_sample_ratio`, the same for equal trace ids
    everywhere; without an exporter it is not.
    """
    span_id = f"{random.randrange(1, 1 << 64):016x}"
    if given:
        return trace_context.child(given, span_id)
    trace_id = trace_id or f"{random.randrange(1, 1 << 128):032x}"
    sampled = _recorder is not None and _recorder.samples(int(trace_id, 16))
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


def current() -> str:
    """Return the context that this task works in, empty when it is not sampled."""
    if _recorder is None:
        return ""
    found = trace.get_current_span().get_span_context()
    if not found.trace_flags.sampled:
        return ""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def current_trace_id() -> str:
    """Return the id of the sampled trace that this task works for, empty for none."""
    return trace_context.trace_id_of(current())


@contextmanager
def within(traceparent: str) -> Iterator[None]:
    """Work in this context while the block runs, where it is recorded; else change nothing."""
    if not wants(traceparent):
        yield
        return
    span = NonRecordingSpan(_span_context(traceparent, remote=False))
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)


def record(
    name: str,
    context: str,
    *,
    kind: SpanKind,
    start_ns: int,
    parent: str = "",
    end_ns: int | None = None,
    attributes: Attributes | None = None,
    links: Sequence[str] = (),
    error: str = "",
    message: str = "",
) -> None:
    """Record the span that `context` names, if its trace is recorded here.

    `parent` is a span id of the same trace, empty for a root; `links` are contexts. `error` is an
    error's class, `message` what it said.
    """
    recorder = _recorder
    if recorder is None or not trace_context.is_sampled(context):
        return
    span = recorder.begin(
        name,
        _span_context(context, remote=False),
        parent=_span_context(trace_context.child(context, parent)) if parent else None,
        kind=kind,
        attributes={**(attributes or {}), ERROR_TYPE: error} if error else attributes,
        links=[Link(_span_context(one)) for one in links],
        start_ns=start_ns,
    )
    if error:
        span.set_status(Status(StatusCode.ERROR, message or None))
    span.end(end_ns)


def _span_context(traceparent: str, *, remote: bool = True) -> SpanContext:
    return SpanContext(
        int(traceparent[3:35], 16),
        int(traceparent[36:52], 16),
        is_remote=remote,
        trace_flags=TraceFlags(int(traceparent[53:55], 16)),
        trace_state=TraceState(),
    )
