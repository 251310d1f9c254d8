"""What identifies a request: its id, taken over when well-formed and made up otherwise; its span.

Guarantees: an id is safe for headers, logs and the outbox; a client cannot smuggle anything in. A
request is a span of its own, recorded when it is answered.
"""

from __future__ import annotations

import re
from os import urandom
from typing import Final, NamedTuple

from app import trace_context
from app.observability import tracing
from app.observability.tracing import SpanKind

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,127}")
NOT_TRACED: Final = frozenset(
    {"/metrics", "/livez", "/readyz", "/health", "/api/healthz", "/static/{name}", "unmatched"}
)
"""Routes that are asked all the time, or about nothing."""
ENDLESS: Final = "text/event-stream"
ERRORS_FROM: Final = 500


class Answered(NamedTuple):
    """What the span of a request says of it; `route` is a pattern, `media` the answer's type."""

    method: str
    route: str
    path: str
    status: int
    media: str


def request_id(given: str | None) -> str:
    """Return the client's X-Request-ID if it is 8-128 plain characters, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return urandom(16).hex()


def record_request(context: str, parent: str, answered: Answered, start_ns: int) -> None:
    """Record the server span `context` of a request that was answered, below the client's span
    `parent` if it named one; unless its route is not traced."""
    if not tracing.wants(context) or answered.route in NOT_TRACED or answered.media == ENDLESS:
        return
    failed = answered.status >= ERRORS_FROM
    tracing.record(
        f"{answered.method} {answered.route}",
        context,
        parent=trace_context.span_id_of(parent),
        kind=SpanKind.SERVER,
        start_ns=start_ns,
        attributes={
            "http.request.method": answered.method,
            "http.route": answered.route,
            "url.path": answered.path,
            "http.response.status_code": answered.status,
        },
        error=str(answered.status) if failed else "",
    )
