"""How the fake payment provider answers, changed at run time: what a lab adds to the API.

The provider is a third party with an HTTP API of its own; this speaks that API and nothing else.
Against a provider without a mode, every real one, the answer is 501 and nothing is changed. It is
of the laboratory and not of the product: no platform decides how its provider behaves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, Literal, get_args

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from app.db import audit_log
from app.observability.health import json_response
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem, invalid, unavailable
from web.routes import OPERATOR, Route, add_routes

if TYPE_CHECKING:
    from app.delivery import App

REPLY_MAX_BYTES: Final = 16384

Mode = Literal["SUCCESS", "ERROR", "DECLINE", "TIMEOUT"]


MODES: Final = get_args(Mode)


class ModeIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the provider is to answer from now on."""

    mode: Mode


class ModeOut(msgspec.Struct, frozen=True):
    """How the provider answers: as usual, with 500, with a decline, or not at all."""

    mode: Mode


class _Said(msgspec.Struct, frozen=True):
    """The part of the provider's settings that is ours to show."""

    mode: Mode


_MODE: Final = msgspec.json.Decoder(ModeIn)
_SAID: Final = msgspec.json.Decoder(_Said)


def _no_simulator() -> Problem:
    return Problem(
        501,
        "provider_has_no_mode",
        "The payment provider at gateway_url has no response mode: it is not the simulator."
        " Nothing was changed.",
    )


class Provider:
    """The provider's own switch, `/v1/mode`; one short request at a time, with a deadline."""

    def __init__(self, gateway_url: str, timeout_s: float) -> None:
        self._url = URL(gateway_url) / "v1" / "mode"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def mode(self) -> Mode:
        """Return the present mode. Raises Problem 501 without one, 503 without an answer."""
        return await self._ask("GET", None)

    async def change(self, mode: Mode) -> Mode:
        """Change the mode and return it as the provider confirms it; raises Problem."""
        return await self._ask("PUT", {"mode": mode})

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, method: str, body: dict[str, str] | None) -> Mode:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.request(
                method, self._url, json=body, allow_redirects=False
            ) as reply:
                status, said = reply.status, await reply.content.read(REPLY_MAX_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise unavailable(
                "provider_unavailable",
                "The payment provider does not answer; its mode is not known.",
            ) from None
        if status >= 500:
            raise unavailable("provider_unavailable", f"The payment provider answered {status}.")
        try:
            if status == 200:
                return _SAID.decode(said).mode
        except msgspec.MsgspecError:
            pass
        raise _no_simulator()


PROVIDER: web.AppKey[Provider] = web.AppKey("payment_provider", Provider)


async def show(request: web.Request) -> web.Response:
    """GET /api/payments/mode: asked of the provider, never remembered."""
    return json_response(ModeOut(await request.app[PROVIDER].mode()))


async def change(request: web.Request) -> web.Response:
    """PUT /api/payments/mode: answered when the provider has confirmed it.

    The act is recorded before the provider is asked, so that none goes unrecorded; a second row
    says when it did not come about.
    """
    provider = request.app[PROVIDER]
    actor = actor_of(request)
    wanted = await _wanted(request)
    before = await provider.mode()
    await _record(request, actor, "payment_mode.change", {"from": before, "to": wanted})
    try:
        confirmed = await provider.change(wanted)
    except Problem as problem:
        await _record(request, actor, "payment_mode.change_failed", {"problem": problem.code})
        raise
    return json_response(ModeOut(confirmed))


async def _wanted(request: web.Request) -> Mode:
    raw = await read_json(request)
    try:
        return decode(_MODE, raw).mode
    except Problem as problem:
        if problem.status == 422:
            raise invalid(f"{problem.detail}; mode must be one of {', '.join(MODES)}") from None
        raise


async def _record(request: web.Request, actor: str, action: str, detail: dict[str, str]) -> None:
    async with request.app[CONTEXT].db.transaction() as tx:
        audit_log.record(
            tx,
            actor=actor,
            action=action,
            target="payment_provider",
            detail=detail,
            request_id=request[REQUEST_ID],
        )
        await tx.commit()


ROUTES: Final = (
    Route(
        "GET",
        "/api/payments/mode",
        show,
        "Read how the simulated payment provider answers",
        ModeOut,
        problems=(501,),
        tag="payments",
    ),
    Route(
        "PUT",
        "/api/payments/mode",
        change,
        "Change how the simulated payment provider answers",
        ModeOut,
        ModeIn,
        problems=(400, 413, 415, 422, 501),
        tag="payments",
        headers=(OPERATOR,),
    ),
)


def install(app: App) -> None:
    """Add the routes to role web; nothing in other roles."""
    if app.role.name == "web":
        app.web_extensions.append(extend)


def extend(application: web.Application) -> None:
    """Serve the mode of the provider named by the settings of `application`."""
    settings = application[CONTEXT].settings
    application[PROVIDER] = Provider(settings.gateway_url, settings.gateway_attempt_timeout_s)
    application.cleanup_ctx.append(_provider)
    add_routes(application, ROUTES)


async def _provider(application: web.Application) -> AsyncIterator[None]:
    yield
    await application[PROVIDER].close()
