"""Health of the web role: it lives while it answers, and is ready while PostgreSQL does."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import msgspec
from aiohttp import web

from app.db.engine import Database
from app.db.statements import statement
from app.errors import DatabaseOutage, TransientDatabase
from app.observability.health import Verdict, json_response, verdict_response
from web.context import CONTEXT
from web.routes import Route

PING_TIMEOUT_S: Final = 1.0

_PING = statement("select 1")


class VerdictOut(msgspec.Struct, frozen=True):
    """Whether it passes (`ok` or `failing`) and, when not, why."""

    status: Literal["ok", "failing"]
    reason: str


class CheckOut(msgspec.Struct, frozen=True):
    """The state of one dependency."""

    status: Literal["UP", "DOWN"]
    reason: str


class HealthOut(msgspec.Struct, frozen=True):
    """The state of this server, and of each dependency by name."""

    status: Literal["UP", "DOWN"]
    checks: dict[str, CheckOut]


async def livez(_: web.Request) -> web.Response:
    """GET /livez: the event loop turns."""
    return verdict_response(Verdict(ok=True))


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: PostgreSQL answers within PING_TIMEOUT_S."""
    return verdict_response(await database_verdict(request.app[CONTEXT].db))


async def health(request: web.Request) -> web.Response:
    """GET /health, /api/healthz: the same with each dependency by name."""
    verdict = await database_verdict(request.app[CONTEXT].db)
    state: Literal["UP", "DOWN"] = "UP" if verdict.ok else "DOWN"
    body = HealthOut(state, {"postgres": CheckOut(state, verdict.reason)})
    return json_response(body, status=200 if verdict.ok else 503)


async def database_verdict(db: Database) -> Verdict:
    """Return whether PostgreSQL answers a statement within PING_TIMEOUT_S."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            await db.fetch(_PING)
    except (DatabaseOutage, TransientDatabase):
        return Verdict(ok=False, reason="PostgreSQL is away")
    except TimeoutError:
        return Verdict(ok=False, reason="PostgreSQL does not answer in time")
    return Verdict(ok=True)


_READY = "Whether PostgreSQL answers"
_HEALTH = "The state of every dependency"
ROUTES = (
    Route("GET", "/livez", livez, "Whether the process lives", VerdictOut, tag="health"),
    Route("GET", "/readyz", readyz, _READY, VerdictOut, tag="health", also=((503, VerdictOut),)),
    Route("GET", "/health", health, _HEALTH, HealthOut, tag="health", also=((503, HealthOut),)),
    Route(
        "GET", "/api/healthz", health, _HEALTH, HealthOut, tag="health", also=((503, HealthOut),)
    ),
)
