"""Health of the web role: it lives while it answers, and is ready while PostgreSQL does."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import web

from app.db.engine import Database
from app.db.statements import statement
from app.errors import DatabaseOutage, TransientDatabase
from app.observability.health import Verdict, json_response, verdict_response
from web.context import CONTEXT
from web.routes import Route

PING_TIMEOUT_S: Final = 1.0

_PING = statement("select 1")


async def livez(_: web.Request) -> web.Response:
    """GET /livez: the event loop turns."""
    return verdict_response(Verdict(ok=True))


async def readyz(request: web.Request) -> web.Response:
    """GET /readyz: PostgreSQL answers within PING_TIMEOUT_S."""
    return verdict_response(await database_verdict(request.app[CONTEXT].db))


async def health(request: web.Request) -> web.Response:
    """GET /health, /api/healthz: the same with each dependency by name."""
    verdict = await database_verdict(request.app[CONTEXT].db)
    state = "UP" if verdict.ok else "DOWN"
    body = {"status": state, "checks": {"postgres": {"status": state, "reason": verdict.reason}}}
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


ROUTES = (
    Route("GET", "/livez", livez, "Whether the process lives", dict[str, str]),
    Route("GET", "/readyz", readyz, "Whether PostgreSQL answers", dict[str, str]),
    Route("GET", "/health", health, "The state of every dependency", dict[str, Any]),
    Route("GET", "/api/healthz", health, "The state of every dependency", dict[str, Any]),
)
