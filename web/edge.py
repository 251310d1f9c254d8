"""The edge of the web role: one middleware around every view.

It gives each request an id, a trace context and a deadline, turns every error into problem+json,
adds the security headers and counts. It guarantees that no view's exception text leaves the
process. It does not authenticate or limit rates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from app.errors import BrokenObjective, DatabaseOutage, TransientDatabase
from app.ids import is_uuid
from app.observability import exemplars, metrics
from app.observability.logging import bound, get_log
from app.observability.tracing import begin, now_ns, within
from app.trace_context import parse, read_state, span_id_of, trace_id_of
from web.context import CONTEXT, ERROR_PAGE
from web.problems import Problem, of_http_error, unavailable
from web.trace import Answered, record_request, request_id

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
TRACE: web.RequestKey[str] = web.RequestKey("trace", str)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = get_log(__name__)

_PERMISSIONS: Final = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=()"
POLICY: Final = "Content-Security-Policy"
"""The one header that a view may set otherwise: a page that was made elsewhere."""
SECURITY_HEADERS: Final = {
    POLICY: (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": _PERMISSIONS,
    "Referrer-Policy": "no-referrer",
    "Server": "symphony",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@web.middleware
async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer `request` by `handler` within the request timeout, whatever happens inside."""
    started, started_ns = time.monotonic(), now_ns()
    identity = request[REQUEST_ID] = request_id(request.headers.get("X-Request-ID"))
    parent = parse(request.headers.get("traceparent", ""))
    context = request[TRACE] = begin(parent)
    with bound(**_log_fields(request, identity, context)), within(context):
        try:
            async with asyncio.timeout(request.app[CONTEXT].settings.api_request_timeout_s):
                response = await handler(request)
        except Exception as error:
            response = failure(request, problem_of(error), identity)
    policy = response.headers.get(POLICY, SECURITY_HEADERS[POLICY])
    response.headers.update({**SECURITY_HEADERS, POLICY: policy})
    response.headers["X-Request-ID"] = identity
    response.headers.setdefault("Cache-Control", "no-store")
    route = observe(request, response.status, time.monotonic() - started)
    answered = Answered(request.method, route, request.path, response.status, response.content_type)
    record_request(context, parent, answered, started_ns)
    return response


def _log_fields(request: web.Request, identity: str, context: str) -> dict[str, str]:
    fields = {
        "correlation_id": identity,
        "trace_id": trace_id_of(context),
        "span_id": span_id_of(context),
    }
    order_id = request.match_info.get("order_id", "").lower()
    if is_uuid(order_id):
        fields["order_id"] = order_id
    return fields


def problem_of(error: Exception) -> Problem:
    """Return what the client is told of `error`; unexpected ones are logged with their stack."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, web.HTTPException):
        return of_http_error(error)
    if isinstance(error, TimeoutError):
        return unavailable("timeout", "The request took too long; it may still take effect.")
    if isinstance(error, DatabaseOutage):
        return unavailable("database_unavailable", "The database is away; try again.")
    if isinstance(error, TransientDatabase):
        return unavailable("database_busy", "The database is too busy; try again.")
    if isinstance(error, BrokenObjective):
        return unavailable(error.code, f"No objective can be judged: {error.detail}.")
    log.error("web.view_failed", error=error)
    return Problem(500, "internal_error", "The request failed; quote the request id.")


def failure(request: web.Request, problem: Problem, identity: str) -> web.Response:
    """Return a problem as JSON, or as a page to a browser that asked for a page."""
    if request.path.startswith("/api/") or "text/html" not in request.headers.get("Accept", ""):
        return problem.response(identity, request.path)
    title = HTTPStatus(problem.status).phrase
    page = request.app[ERROR_PAGE](title, problem.detail, problem.status)
    page.headers.update(problem.headers)
    return page


def observe(request: web.Request, status: int, seconds: float) -> str:
    """Count the answer under its route's pattern, so that ids in paths make no new series.

    Returns the pattern.
    """
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unmatched"
    method = request.method if request.method in METHODS else "OTHER"
    metrics.HTTP_REQUESTS.child(method, route, str(status)).inc()
    trace = exemplars.of(request.get(TRACE, ""))
    metrics.HTTP_SECONDS.child(method, route).observe(seconds, trace)
    return route


def trace_of(request: web.Request) -> str:
    """Return the trace context under which what this request causes is recorded."""
    return request[TRACE]


def state_of(request: web.Request) -> str:
    """Return the `tracestate` that came with the client's trace context, to be passed on."""
    given = request.headers.get("tracestate")
    if given is None:
        return ""
    return read_state(
        given.encode("ascii", "replace"), parse(request.headers.get("traceparent", ""))
    )
