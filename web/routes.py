"""What a route of the API is: the one declaration from which it is served and documented."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Param(NamedTuple):
    """A parameter of the query or, when it stands in braces in the path, of the path.

    `type` is what the text must be read as: str, int, float, bool, or a msgspec-annotated one.
    """

    name: str
    type: Any
    meaning: str
    required: bool = False


class Route(NamedTuple):
    """One operation. `body` and `reply` are msgspec types, None when there is no such JSON.

    `problems` are the statuses, besides 200-299, 404, 405, 500 and 503, that it may answer.
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


def add_routes(application: web.Application, routes: Iterable[Route]) -> None:
    """Serve `routes`, and keep them where the API's description is made from."""
    declared = application[ROUTES]
    for route in routes:
        application.router.add_route(route.method, route.path, route.handler)
        declared.append(route)


ROUTES: web.AppKey[list[Route]] = web.AppKey("routes", list)
