"""The descriptions of the API and of the messages, as this server serves them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app import asyncapi
from web import routes
from web.context import CONTEXT
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


async def messages(request: web.Request) -> web.Response:
    """GET /asyncapi.json: the AsyncAPI 3.0 document of every topic, as this server is set up."""
    documents = request.app[DOCUMENTS]
    if "asyncapi" not in documents:
        settings = request.app[CONTEXT].settings
        documents["asyncapi"] = asyncapi.encoded(
            namespace=settings.namespace,
            partitions=settings.topic_partitions,
            replicas=settings.topic_replicas,
            bootstrap=settings.broker_bootstrap,
        )
    return web.Response(body=documents["asyncapi"], content_type="application/json")


ROUTES = (
    routes.Route(
        "GET", "/openapi.json", openapi, "This API, in OpenAPI 3.1", dict[str, Any], tag="contract"
    ),
    routes.Route(
        "GET", "/asyncapi.json", messages, "The messages, in AsyncAPI 3.0", dict[str, Any],
        tag="contract",
    ),
)  # fmt: skip
