"""The messages that requests cause; each is put into the outbox with what it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.messages import Cause
from app.messages.deadletter import traceparent_of
from app.observability import metrics, tracing
from app.observability.messaging import record_send
from web.edge import REQUEST_ID, state_of, trace_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from app.messages import Output
    from app.settings import Settings


def source_of(settings: Settings) -> str:
    """Return the `ce_source` of every message of role web."""
    return f"{settings.namespace}/web"


def cause_of(request: web.Request, order_id: str) -> Cause:
    """Return the cause of a message by which `request` asks something of an order."""
    return Cause(order_id, request[REQUEST_ID], trace_of(request), state_of(request))


def committed(outputs: Iterable[Output], parent: str, began_ns: int) -> None:
    """Count messages that a request put into the outbox, and record their spans below `parent`, its
    context; for when their transaction is committed.
    """
    recorded = tracing.wants(parent)
    for output in outputs:
        metrics.OUTBOX_WRITTEN.child(output.topic).inc()
        if recorded:
            context = traceparent_of(output.headers)
            record_send(output, context, parent, start_ns=began_ns, operation="create")
