"""Toxiproxy's HTTP API: paths, methods, status codes and bodies as its clients expect them."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from chaos.proxy.bodies import ProxyBody, ProxyChange, ToxicBody, ToxicChange, decode
from chaos.proxy.collection import Collection
from chaos.proxy.errors import ApiError

VERSION = "2.12.0"
"""The Toxiproxy whose API this is; clients ask for it."""
BODY_MAX_BYTES = 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """The handlers over one collection."""

    def __init__(self, collection: Collection) -> None:
        self._all = collection

    def application(self) -> web.Application:
        """All routes."""
        app = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[_answer_errors])
        proxy, toxic = "/proxies/{proxy}", "/proxies/{proxy}/toxics/{toxic}"
        app.router.add_get("/version", self._version)
        app.router.add_post("/populate", self._populate)
        app.router.add_post("/reset", self._reset)
        app.router.add_get("/proxies", self._index)
        app.router.add_post("/proxies", self._create)
        app.router.add_get(proxy, self._show)
        app.router.add_delete(proxy, self._delete)
        app.router.add_get(f"{proxy}/toxics", self._toxic_index)
        app.router.add_post(f"{proxy}/toxics", self._toxic_create)
        app.router.add_get(toxic, self._toxic_show)
        app.router.add_delete(toxic, self._toxic_delete)
        for method in ("POST", "PATCH"):
            app.router.add_route(method, proxy, self._update)
            app.router.add_route(method, toxic, self._toxic_update)
        return app

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": VERSION})

    async def _index(self, _: web.Request) -> web.Response:
        return _json(self._all.documents())

    async def _create(self, request: web.Request) -> web.Response:
        body = decode(await request.read(), ProxyBody)
        return _json(await self._all.create(body), HTTPStatus.CREATED)

    async def _populate(self, request: web.Request) -> web.Response:
        bodies = decode(await request.read(), list[ProxyBody])
        proxies, error = await self._all.populate(bodies)
        if error is None:
            return _json({"proxies": proxies}, HTTPStatus.CREATED)
        return _json({**error.document(), "proxies": proxies}, error.status)

    async def _reset(self, _: web.Request) -> web.Response:
        await self._all.reset()
        return _nothing()

    async def _show(self, request: web.Request) -> web.Response:
        return _json(self._all.get(request.match_info["proxy"]).document())

    async def _update(self, request: web.Request) -> web.Response:
        name = request.match_info["proxy"]
        self._all.get(name)
        return _json(await self._all.update(name, decode(await request.read(), ProxyChange)))

    async def _delete(self, request: web.Request) -> web.Response:
        await self._all.delete(request.match_info["proxy"])
        return _nothing()

    async def _toxic_index(self, request: web.Request) -> web.Response:
        return _json(self._all.get(request.match_info["proxy"]).toxics.documents())

    async def _toxic_create(self, request: web.Request) -> web.Response:
        name = request.match_info["proxy"]
        self._all.get(name)
        return _json(await self._all.add_toxic(name, decode(await request.read(), ToxicBody)))

    async def _toxic_show(self, request: web.Request) -> web.Response:
        names = request.match_info
        return _json(self._all.get(names["proxy"]).toxics.get(names["toxic"]).document())

    async def _toxic_update(self, request: web.Request) -> web.Response:
        proxy, toxic = request.match_info["proxy"], request.match_info["toxic"]
        self._all.get(proxy).toxics.get(toxic)
        change = decode(await request.read(), ToxicChange)
        return _json(await self._all.update_toxic(proxy, toxic, change))

    async def _toxic_delete(self, request: web.Request) -> web.Response:
        await self._all.remove_toxic(request.match_info["proxy"], request.match_info["toxic"])
        return _nothing()


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as {"error", "status"}; browsers are refused, as no page may order faults."""
    if request.headers.get("User-Agent", "").startswith("Mozilla/"):
        return _error("User agent not allowed", HTTPStatus.FORBIDDEN)
    try:
        return await handler(request)
    except ApiError as error:
        return _json(error.document(), error.status)
    except web.HTTPException as error:
        return _error(error.reason, HTTPStatus(error.status))
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return _error(f"the proxy failed: {error!r}", HTTPStatus.INTERNAL_SERVER_ERROR)


def _json(document: Any, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, content_type="application/json")


def _error(text: str, status: HTTPStatus) -> web.Response:
    return _json(ApiError(text, status).document(), status)


def _nothing() -> web.Response:
    return web.Response(status=HTTPStatus.NO_CONTENT)
