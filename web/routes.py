"""What a route of the API is: the one declaration from which it is served and documented.

`web.openapi` makes the API's description of it, and the fuzz test sends what it promises to take.
So every parameter, header, body and status stands here, and nothing that is not answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final, NamedTuple

from aiohttp import web
from msgspec import Meta

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Param(NamedTuple):
    """A parameter of the query or, when it stands in braces in the path, of the path; a header.

    `type` is what the text must be read as: str, int, float, bool, or a msgspec-annotated one.
    """

    name: str
    type: Any
    meaning: str
    required: bool = False


class OneOf(NamedTuple):
    """JSON of one of several types, for `body` and `reply`; msgspec reads no union of objects."""

    types: tuple[Any, ...]


class Route(NamedTuple):
    """One operation. `body` and `reply` are msgspec types, None when there is no such JSON.

    `problems` are the statuses that it may answer with a problem document, besides 405, 500, 503,
    and 404 where the path has parameters; `also` are (status, type) of further answers that are no
    problem documents.
    `headers` are those of the request, `reply_headers` those of a successful answer; every route
    takes and answers X-Request-ID. `examples` are (name, body). The handler's docstring is the
    operation's description.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    reply: Any = None
    body: Any = None
    status: int = 200
    params: tuple[Param, ...] = ()
    problems: tuple[int, ...] = ()
    tag: str = ""
    body_required: bool = True
    headers: tuple[Param, ...] = ()
    reply_headers: tuple[Param, ...] = ()
    also: tuple[tuple[int, Any], ...] = ()
    examples: tuple[tuple[str, Any], ...] = ()
    media: str = "application/json"


IDEMPOTENCY_KEY: Final = Param(
    "Idempotency-Key",
    Annotated[str, Meta(pattern="^[!-~]{1,200}$", examples=["order-2026-11-28-17"])],
    "repeats of a request with one key are one request; they get the first one's answer",
)
OPERATOR: Final = Param(
    "X-Operator",
    Annotated[str, Meta(pattern="^[!-~]([ -~]{0,98}[!-~])?$", examples=["ada"])],
    "who acts, for the audit log; `operator` when absent",
)


def add_routes(application: web.Application, routes: Iterable[Route]) -> None:
    """Serve `routes`, and keep them where the API's description is made from."""
    declared = application[ROUTES]
    for route in routes:
        application.router.add_route(route.method, route.path, route.handler)
        declared.append(route)


ROUTES: web.AppKey[list[Route]] = web.AppKey("routes", list)
