"""The provider's HTTP API over `Provider` and `Ledger`.

Every attempt is in the ledger before its reply leaves. A client that goes away does not undo its
request. A ledger that cannot be written ends the process: a provider without books does not trade.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from chaos.gateway_sim.ledger import Ledger, Line
from chaos.gateway_sim.provider import (
    Answer,
    Behaviour,
    CancelBody,
    ChargeBody,
    Entry,
    Luck,
    Mode,
    Provider,
    RefundBody,
    Reply,
    body_hash,
    cancel_key,
    payment_id,
)

BODY_MAX_BYTES = 16384
KEY_MAX_CHARS = 200
EXIT_LEDGER = 74

_CHARGES = "/v1/charges"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_JSON = {"Content-Type": "application/json"}
_REPLAYED = {**_JSON, "Idempotent-Replayed": "true"}
_encode = msgspec.json.Encoder().encode
_decode_charge = msgspec.json.Decoder(ChargeBody).decode
_decode_refund = msgspec.json.Decoder(RefundBody).decode
_decode_cancel = msgspec.json.Decoder(CancelBody).decode


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=_encode(body), headers=_JSON)


def _problem(status: int, reason: str) -> web.Response:
    return _json(status, Reply("rejected", reason=reason))


class GatewayServer:
    """Request handlers. One instance serves one ledger; `handle` is given to aiohttp's Server."""

    def __init__(self, provider: Provider, ledger: Ledger) -> None:
        self._provider = provider
        self._ledger = ledger
        self._mode_changed = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route one request. Bad input answers 4xx with a reason and leaves no ledger line."""
        try:
            if request.method == "POST":
                return await self._post(request, request.raw_path)
            if request.method == "GET":
                return self._get(request.raw_path)
            if request.method == "PUT" and request.raw_path == "/v1/mode":
                return await self._change_mode(request)
        except msgspec.MsgspecError as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        except web.HTTPRequestEntityTooLarge:
            return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large")
        return _problem(HTTPStatus.NOT_FOUND, "no_such_route")

    async def _post(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path == _CHARGES:
            return await self._charge(request)
        if path == "/v1/refunds":
            return await self._refund(request)
        if path.startswith(_CHARGES + "/") and path.endswith("/cancel"):
            return await self._cancel(request, path[len(_CHARGES) + 1 : -len("/cancel")])
        return _problem(HTTPStatus.NOT_FOUND, "no_such_route")

    def _get(self, path: str) -> web.StreamResponse:
        if path == "/healthz":
            return _json(HTTPStatus.OK, {"status": "ok", "ledger_lines": self._ledger.lines})
        if path == "/v1/mode":
            return _json(HTTPStatus.OK, self._provider.behaviour)
        if path.startswith(_CHARGES + "/"):
            return self._show(path[len(_CHARGES) + 1 :])
        return _problem(HTTPStatus.NOT_FOUND, "no_such_route")

    async def _charge(self, request: web.BaseRequest) -> web.StreamResponse:
        body = _decode_charge(await self._body(request))
        key = request.headers.get("Idempotency-Key", "")
        if not 0 < len(key) <= KEY_MAX_CHARS:
            return _problem(HTTPStatus.BAD_REQUEST, "idempotency_key_missing_or_too_long")
        line = Line("charge", body.order_id, key, body.amount_minor, body.currency, "", True, 0,
                    body_hash(_encode(body)), _NEVER)  # fmt: skip
        return await self._attempt(request, line)

    async def _refund(self, request: web.BaseRequest) -> web.StreamResponse:
        body = _decode_refund(await self._body(request))
        key = request.headers.get("Idempotency-Key", "")
        if not 0 < len(key) <= KEY_MAX_CHARS:
            return _problem(HTTPStatus.BAD_REQUEST, "idempotency_key_missing_or_too_long")
        line = Line("refund", body.order_id, key, 0, "", "", True, 0,
                    body_hash(_encode(body)), _NEVER, body.charge_key)  # fmt: skip
        return await self._attempt(request, line)

    async def _cancel(self, request: web.BaseRequest, quoted: str) -> web.StreamResponse:
        charge_key = unquote(quoted)
        if not 0 < len(charge_key) <= KEY_MAX_CHARS:
            return _problem(HTTPStatus.BAD_REQUEST, "key_too_long")
        raw = await self._body(request)
        body = _decode_cancel(raw) if raw else CancelBody()
        line = Line("cancel", body.order_id, cancel_key(charge_key), 0, "", "", True, 0, "", _NEVER,
                    charge_key)  # fmt: skip
        return await self._attempt(request, line)

    async def _body(self, request: web.BaseRequest) -> bytes:
        body = await request.read()
        if len(body) > BODY_MAX_BYTES:
            raise web.HTTPRequestEntityTooLarge(BODY_MAX_BYTES, len(body))
        return body

    async def _attempt(self, request: web.BaseRequest, line: Line) -> web.StreamResponse:
        """Run one attempt: wait its latency, decide, write the ledger, reply or lose the reply."""
        provider = self._provider
        entry = provider.find(line.idempotency_key)
        if entry is not None and entry.in_flight:
            line.attempt = entry.attempts
            return self._finish(request, provider.busy(line))
        entry, luck = provider.begin(line.op, line.idempotency_key)
        line.attempt = entry.attempts
        behaviour = provider.behaviour
        if behaviour.mode is Mode.TIMEOUT:
            await self._hang(entry, behaviour.hang_s)
            line.outcome, line.replied = "timeout", False
            return self._finish(request, Answer(line, 504, None))
        await self._wait(entry, behaviour, luck)
        return self._finish(request, provider.decide(line, luck))

    async def _wait(self, entry: Entry, behaviour: Behaviour, luck: Luck) -> None:
        spread = behaviour.latency_ms_max - behaviour.latency_ms_min
        delay_ms = behaviour.latency_ms_min + spread * luck.latency
        if delay_ms >= 1.0:
            entry.in_flight = True
            try:
                await asyncio.sleep(delay_ms / 1000.0)
            finally:
                entry.in_flight = False

    async def _hang(self, entry: Entry, hang_s: float) -> None:
        """Keep the key in flight until the mode changes or `hang_s` is over."""
        entry.in_flight = True
        try:
            async with asyncio.timeout(hang_s):
                await self._mode_changed.wait()
        except TimeoutError:
            return
        finally:
            entry.in_flight = False

    def _finish(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        answer.line.at = datetime.now(UTC)
        try:
            self._ledger.append(answer.line)
        except OSError as error:
            sys.stderr.write(f"the ledger cannot be written: {error}\n")
            sys.stderr.flush()
            sys.exit(EXIT_LEDGER)
        if answer.reply is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=answer.status)
        headers = _REPLAYED if answer.replayed else _JSON
        return web.Response(status=answer.status, body=_encode(answer.reply), headers=headers)

    def _show(self, quoted: str) -> web.Response:
        key = unquote(quoted)
        entry = self._provider.find(key)
        if entry is None or entry.op != "charge":
            return _problem(HTTPStatus.NOT_FOUND, "no_such_charge")
        return _json(
            HTTPStatus.OK,
            {
                "idempotency_key": key,
                "payment_id": payment_id(key) if entry.outcome == "ok" else "",
                "order_id": entry.order_id,
                "amount_minor": entry.amount_minor,
                "currency": entry.currency,
                "outcome": entry.outcome or ("in_flight" if entry.in_flight else "undecided"),
                "refunded": entry.refunded,
                "attempts": entry.attempts,
            },
        )

    async def _change_mode(self, request: web.BaseRequest) -> web.Response:
        """Change the named settings and leave the others as they are; end every hanging request."""
        changes = msgspec.json.decode(await self._body(request), type=dict[str, Any])
        merged = {**msgspec.structs.asdict(self._provider.behaviour), **changes}
        behaviour = msgspec.convert(merged, Behaviour)
        problem = behaviour.problem()
        if problem:
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, problem)
        self._provider.behaviour = behaviour
        self._mode_changed.set()
        self._mode_changed = asyncio.Event()
        return _json(HTTPStatus.OK, behaviour)
