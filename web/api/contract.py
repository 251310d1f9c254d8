"""The API's own description, as this server serves it."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from web import routes
from web.openapi import encoded

DOCUMENTS: web.AppKey[dict[str, bytes]] = web.AppKey("documents", dict)
"""The documents that were asked for; routes do not change while a server runs."""


async def openapi(request: web.Request) -> web.Response:
    """GET /openapi.json: the OpenAPI 3.1 document of every route this server has."""
    documents = request.app[DOCUMENTS]
    if "openapi" not in documents:
        served = request.app[routes.ROUTES]
        documents["openapi"] = encoded(served)
    return web.Response(body=documents["openapi"], content_type="application/json")


ROUTES = (
    routes.Route(
        "GET", "/openapi.json", openapi, "This API, in OpenAPI 3.1", dict[str, Any], tag="contract"
    ),
)
