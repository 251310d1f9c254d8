"""Faults of the API: http_latency, http_error, http_timeout.

They strike in a middleware inside the API's own edge, so metrics, logs and deadlines are those of
any other answer. `install` puts it there; without an active fault it does nothing. What ends or
watches faults is never struck, and what is struck never takes its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import web
from msgspec import Meta

from app.taps import exempt
from chaos.faults.kind import Base, Between, P, Params, within
from web.admission import reserve
from web.edge import REQUEST_ID
from web.problems import Problem

if TYPE_CHECKING:
    from app.delivery import App
    from chaos.control.hits import Hits
    from chaos.control.rule import Rule

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SPARED = ("/api/chaos", "/chaos", "/api/gameday", "/api/healthz", "/livez", "/readyz", "/health",
          "/metrics")  # fmt: skip
"""Paths that begin like this are never struck, nor are their statements; what a fault holds keeps
none of their requests out."""
HEADER = "X-Chaos-Rule"
"""Names the rule that struck, on what is answered."""

_hooks: WeakKeyDictionary[App, list[_OnRequests[msgspec.Struct]]] = WeakKeyDictionary()


def install(app: App) -> None:
    """Add the middleware to the web role's application; call it once, before the server starts."""
    hooks = _hooks.setdefault(app, [])

    @web.middleware
    async def faults(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(SPARED):
            with exempt():
                return await handler(request)
        struck = ""
        for hook in tuple(hooks):
            if hook.strikes(request):
                struck = hook.rule.id
                await hook.act(request)
        response = await handler(request)
        if struck:
            response.headers[HEADER] = struck
        return response

    def extend(application: web.Application) -> None:
        application.middlewares.append(faults)
        reserve(application, SPARED)

    app.web_extensions.append(extend)


class _OnRequests(Base[P]):
    """Decides about each request; `act` delays it, or raises what is answered instead."""

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._number = 0

    def _attach(self) -> None:
        _hooks.setdefault(self.app, []).append(self)  # type: ignore[arg-type]

    def _detach(self) -> None:
        listed = _hooks.get(self.app, [])
        if self in listed:
            listed.remove(self)  # type: ignore[arg-type]

    def strikes(self, request: web.Request) -> bool:
        """Whether `request` is struck; decided by its idempotency key or else its id."""
        self._number += 1
        named = request.headers.get("Idempotency-Key") or str(request.get(REQUEST_ID, ""))
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        return self.hits.strikes(
            key=named.encode(), attempt=self._number, route=route, place=route or "unmatched"
        )

    async def act(self, request: web.Request) -> None:
        """Do it; what it raises is the answer."""
        raise NotImplementedError

    def refuse(self, status: int, code: str, detail: str) -> Problem:
        """The answer of a request that is not handled."""
        return Problem(status, code, detail, headers={HEADER: self.rule.id})


class HttpLatency(_OnRequests[Between]):
    """The API answers late."""

    params = Between

    async def act(self, request: web.Request) -> None:
        luck = self.hits.luck(request.path, b"", self._number)
        await self.hold(within(self.p.min_ms, self.p.max_ms, luck))


class StatusParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`status`: what is answered."""

    status: Annotated[int, Meta(ge=400, le=599)] = 503

    def __post_init__(self) -> None:
        check_status(self.status)


def check_status(status: int) -> None:
    """Raise ValueError for a number that is no status of HTTP."""
    if status not in {one.value for one in HTTPStatus}:
        raise ValueError(f"{status} is no HTTP status")


class HttpError(_OnRequests[StatusParams]):
    """The API answers with an error and does nothing."""

    params = StatusParams

    async def act(self, request: web.Request) -> None:
        raise self.refuse(self.p.status, "injected_error", "The laboratory refused this request.")


class HttpTimeout(_OnRequests[Params]):
    """The API does nothing and is silent until its own deadline, `api_request_timeout_s`.

    Then the edge answers 503. At most HOLDS_MAX requests wait; what comes then is refused at once.
    """

    params = Params
    HOLDS_MAX = 200

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._held = 0

    async def act(self, request: web.Request) -> None:
        if self._held < self.HOLDS_MAX:
            self._held += 1
            try:
                await self._over.wait()  # the edge's deadline ends it
            finally:
                self._held -= 1
        else:
            raise self.refuse(503, "timeout", "The laboratory lets too many requests wait.")
