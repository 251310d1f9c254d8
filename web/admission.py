"""Who is let in: a bound on the requests that run at once, so that those who are in stay fast.

Guarantees: a request beyond the bound is refused with 503 and Retry-After before anything is begun
for it. New orders are not counted here, their queue has its own bound (`api_queue_max`); neither is
what an operator needs to see of an overloaded server: health and metrics. Places that were reserved
are never taken by others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from aiohttp import web

from app.observability import metrics
from web.problems import unavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NOT_COUNTED: Final = frozenset(
    {
        ("POST", "/api/orders"),
        ("POST", "/orders"),
        ("POST", "/api/orders/start"),
        *(("GET", path) for path in ("/livez", "/readyz", "/health", "/api/healthz", "/metrics")),
    }
)


class Admission:
    """How many requests run now, of at most `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = 0


class Reserved(NamedTuple):
    """Requests to paths that begin like one of `prefixes` have places of their own."""

    prefixes: tuple[str, ...]
    admission: Admission


ADMISSION: web.AppKey[Admission] = web.AppKey("admission", Admission)
RESERVED: web.AppKey[Reserved] = web.AppKey("reserved", Reserved)


def reserve(application: web.Application, prefixes: tuple[str, ...]) -> None:
    """Give requests to paths that begin like this as many places as all others have together."""
    application[RESERVED] = Reserved(prefixes, Admission(application[ADMISSION].most))


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let `request` in, or refuse it when as many are in as may be."""
    if (request.method, request.path) in NOT_COUNTED:
        return await handler(request)
    admission = _admission_of(request)
    if admission.running >= admission.most:
        metrics.API_REFUSED.child("others").inc()
        raise unavailable("overloaded", "Too many requests are running; try again.")
    admission.running += 1
    try:
        return await handler(request)
    finally:
        admission.running -= 1


def _admission_of(request: web.Request) -> Admission:
    reserved = request.app.get(RESERVED)
    if reserved is not None and request.path.startswith(reserved.prefixes):
        return reserved.admission
    return request.app[ADMISSION]
