"""What spans and log records say of a message, in OpenTelemetry's terms and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app import ids, trace_context
from app.messages import deadletter
from app.observability import tracing
from app.observability.tracing import SpanKind

if TYPE_CHECKING:
    from app.messages.envelope import Headers, Output


def order_of(key: bytes | None) -> str:
    """Return the order that a record's key names, empty for other keys."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        return ""
    return text if ids.is_uuid(text) else ""


def attributes_of(topic: str, partition: int | None, key: bytes | None) -> dict[str, Any]:
    """Return the attributes of a span about a record."""
    attributes: dict[str, Any] = {tracing.SYSTEM: "kafka", tracing.DESTINATION: topic}
    if partition is not None:
        attributes[tracing.PARTITION] = str(partition)
    order_id = order_of(key)
    if order_id:
        attributes[tracing.ORDER_ID] = order_id
    return attributes


def log_fields(topic: str, key: bytes | None, headers: Headers) -> dict[str, Any]:
    """Return what a log record about a message says of it: names, never content."""
    found = {name: value.decode("utf-8", "replace") for name, value in headers if value}
    context = deadletter.traceparent_of(headers)
    fields = {
        "topic": topic,
        "order_id": order_of(key),
        "event_id": found.get("ce_id", ""),
        "correlation_id": found.get("ce_correlationid", ""),
        "trace_id": trace_context.trace_id_of(context),
        "span_id": trace_context.span_id_of(context),
    }
    return {name: value for name, value in fields.items() if value}


def record_send(
    output: Output,
    context: str,
    parent: str,
    *,
    start_ns: int,
    end_ns: int | None = None,
    operation: str = "send",
    extra: Mapping[str, Any] | None = None,
    links: Sequence[str] = (),
) -> None:
    """Record that `output` was put out as the span `context`, below the span of `parent`.

    `operation`: send, or create for a message that waits in the outbox.
    """
    if not tracing.wants(context):
        return
    event_id = dict(output.headers).get("ce_id", b"").decode("utf-8", "replace")
    tracing.record(
        f"{operation} {output.topic}",
        context,
        parent=trace_context.span_id_of(parent),
        kind=SpanKind.PRODUCER,
        start_ns=start_ns,
        end_ns=end_ns,
        attributes={
            **attributes_of(output.topic, output.partition, output.key),
            tracing.OPERATION: operation,
            tracing.MESSAGE_ID: event_id,
            tracing.EVENT_ID: event_id,
            **(extra or {}),
        },
        links=links,
    )
