"""The HTTP client of the payment gateway: one deadline, few attempts, one idempotency key.

`charge`, `refund` and `cancel` return a definite GatewayReply or raise an Indefinite error of
app.errors; after that the same key may be tried again at any time, by any process. Every attempt
of a call carries the same key. The gateway is trusted with nothing but its answer: replies are
bounded in time and size and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from app.errors import (
    BreakerOpen,
    GatewayTimeout,
    GatewayUnavailable,
    Indefinite,
    SymphonyError,
)
from app.failpoints import failpoint
from app.gateway.breaker import Breaker, State, ignore
from app.gateway.replies import (
    BODY_MAX_BYTES,
    GatewayReply,
    Operation,
    UnexpectedReply,
    read,
)
from app.observability import exemplars, metrics, tracing
from app.observability.families import one_of
from app.observability.logging import get_log
from app.observability.tracing import SpanKind
from app.trace_context import span_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings import Settings

log = get_log(__name__)

_BACKOFF_S = 0.1
_BACKOFF_MAX_S = 1.0
_JSON = "application/json"
_encode = msgspec.json.Encoder().encode


class Limits(NamedTuple):
    """Bounds of one call, in seconds and attempts; `concurrency_max` bounds the connections."""

    deadline_s: float
    attempt_timeout_s: float
    attempts_max: int
    concurrency_max: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Limits:
        """Return the limits that the `gateway_*` settings name."""
        return cls(
            settings.gateway_deadline_s,
            settings.gateway_attempt_timeout_s,
            settings.gateway_attempts_max,
            settings.gateway_concurrency_max,
        )


class _Charge(msgspec.Struct, frozen=True):
    order_id: str
    amount_minor: int
    currency: str


class _Refund(msgspec.Struct, frozen=True):
    order_id: str
    charge_key: str


class _Cancel(msgspec.Struct, frozen=True):
    order_id: str


def backoff_s(attempt: int, uniform: float) -> float:
    """Return the pause after `attempt` (from 1): exponential with full jitter, `uniform` in [0, 1).

    Formula: "Exponential Backoff And Jitter", AWS Architecture Blog.
    """
    return min(_BACKOFF_MAX_S, _BACKOFF_S * 2.0 ** (attempt - 1)) * uniform


def observed_breaker(settings: Settings, told: Callable[[State], None]) -> Breaker:
    """Return a breaker as the settings want it, whose state is in the metrics and `told`.

    `told` also hears CLOSED at its first answer.
    """

    def changed(state: State) -> None:
        told(state)
        metrics.BREAKER_TRANSITIONS.child("gateway", state.value).inc()
        show(state)

    def show(state: State) -> None:
        one_of(metrics.BREAKER_STATE, ("gateway",), metrics.BREAKER_STATES, state.value)

    show(State.CLOSED)
    return Breaker(
        failures_max=settings.breaker_failures_max,
        open_s=settings.breaker_open_s,
        monotonic=time.monotonic,
        changed=changed,
        answered=told,
    )


class GatewayClient:
    """A pool of kept-alive connections to one gateway; for one event loop. Close it at the end."""

    def __init__(self, url: str, limits: Limits, breaker: Breaker) -> None:
        """Nothing is connected before the first call."""
        base = URL(url)
        self._charges = base / "v1" / "charges"
        self._refunds = base / "v1" / "refunds"
        self._base = str(base).rstrip("/")
        self._limits = limits
        self._breaker = breaker
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(
        cls, settings: Settings, told: Callable[[State], None] = ignore
    ) -> GatewayClient:
        """Return a client of the gateway that the settings name; `told` hears of its breaker."""
        breaker = observed_breaker(settings, told)
        return cls(settings.gateway_url, Limits.from_settings(settings), breaker)

    @property
    def breaker(self) -> Breaker:
        """The breaker every attempt passes."""
        return self._breaker

    async def charge(
        self, key: str, *, order_id: str, amount_minor: int, currency: str
    ) -> GatewayReply:
        """Charge once under `key`: OK, DECLINED, or KEY_CANCELLED. Raises Indefinite."""
        body = _encode(_Charge(order_id, amount_minor, currency))
        return await self._call("charge", self._charges, key, body)

    async def refund(self, key: str, *, order_id: str, charge_key: str) -> GatewayReply:
        """Refund the whole charge made under `charge_key`, once, under the refund's own `key`.

        OK also when it was refunded before; REFUSED when nothing was captured under `charge_key`.
        Raises Indefinite.
        """
        body = _encode(_Refund(order_id, charge_key))
        return await self._call("refund", self._refunds, key, body)

    async def cancel(self, charge_key: str, *, order_id: str) -> GatewayReply:
        """Make sure that nothing will be captured under `charge_key` after this.

        OK: it never was and never will be. ALREADY_CAPTURED and DECLINED: it was decided before.
        Raises Indefinite.
        """
        url = URL(f"{self._base}/v1/charges/{quote(charge_key, safe='')}/cancel", encoded=True)
        return await self._call("cancel", url, None, _encode(_Cancel(order_id)))

    async def close(self) -> None:
        """Close all connections; the client may be used again afterwards."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(
        self, operation: Operation, url: URL, key: str | None, body: bytes
    ) -> GatewayReply:
        headers = {"Content-Type": _JSON} if key is None else {
            "Content-Type": _JSON, "Idempotency-Key": key,
        }  # fmt: skip
        started = time.monotonic()
        outcome = "error"
        metrics.GATEWAY_INFLIGHT.child().inc()
        try:
            reply = await self._attempts(operation, url, headers, body, started)
            outcome = "ok" if reply.outcome == "ok" else "declined"
        except GatewayTimeout:
            outcome = "timeout"
            raise
        except BreakerOpen:
            outcome = "rejected"
            raise
        finally:
            metrics.GATEWAY_INFLIGHT.child().dec()
            metrics.GATEWAY_CALLS.child(operation, outcome).inc()
            seconds = time.monotonic() - started
            metrics.GATEWAY_SECONDS.child(operation).observe(seconds, exemplars.here())
        return reply

    async def _attempts(
        self, operation: Operation, url: URL, headers: dict[str, str], body: bytes, started: float
    ) -> GatewayReply:
        """Try with the same key until something definite is known or a bound is reached."""
        deadline = started + self._limits.deadline_s
        attempt = 1
        while True:
            remaining_s = deadline - time.monotonic()
            timeout_s = min(self._limits.attempt_timeout_s, remaining_s)
            try:
                return await self._admitted(operation, url, headers, body, timeout_s)
            except BreakerOpen:
                raise
            except Indefinite as error:
                log.warning(
                    "gateway.call_failed",
                    operation=operation,
                    code=error.code,
                    reason=error.detail,
                    call_attempt=attempt,
                )
                pause_s = backoff_s(attempt, random.random())
                hopeless = isinstance(error, UnexpectedReply) and not error.retryable
                late = time.monotonic() + pause_s >= deadline
                if hopeless or late or attempt >= self._limits.attempts_max:
                    raise
            await failpoint("gateway.before_retry")
            await asyncio.sleep(pause_s)
            attempt += 1

    async def _admitted(
        self, operation: Operation, url: URL, headers: dict[str, str], body: bytes, timeout_s: float
    ) -> GatewayReply:
        """Make one attempt with the breaker's leave and report to it."""
        permit = self._breaker.admit()
        if permit is None:
            raise BreakerOpen(f"next probe in {self._breaker.retry_after_s():.1f} s")
        try:
            reply = await self._attempt(operation, url, headers, body, timeout_s)
        except UnexpectedReply:
            self._breaker.succeed(permit)
            raise
        except Indefinite:
            self._breaker.fail(permit)
            raise
        except BaseException:
            self._breaker.abandon(permit)
            raise
        self._breaker.succeed(permit)
        return reply

    async def _attempt(
        self, operation: Operation, url: URL, headers: dict[str, str], body: bytes, timeout_s: float
    ) -> GatewayReply:
        """One request; a span of its own in the trace it is made for, which it names."""
        inside = tracing.current()
        if not inside:
            return await self._exchange(operation, url, headers, body, timeout_s)
        context, began_ns = tracing.begin(inside), tracing.now_ns()
        code = detail = ""
        try:
            return await self._exchange(
                operation, url, {**headers, "traceparent": context}, body, timeout_s
            )
        except SymphonyError as error:
            code, detail = error.code, error.detail
            raise
        except asyncio.CancelledError:
            code = "cancelled"
            raise
        finally:
            tracing.record(
                f"POST {operation}",
                context,
                parent=span_id_of(inside),
                kind=SpanKind.CLIENT,
                start_ns=began_ns,
                attributes={
                    "http.request.method": "POST",
                    "url.full": str(url),
                    "server.address": url.host or "",
                    "server.port": url.port or 0,
                    "symphony.gateway_operation": operation,
                },
                error=code,
                message=detail,
            )

    async def _exchange(
        self, operation: Operation, url: URL, headers: dict[str, str], body: bytes, timeout_s: float
    ) -> GatewayReply:
        session = self._session or self._open()
        try:
            async with (
                asyncio.timeout(timeout_s),
                session.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                await failpoint("gateway.before_read")
                content = await _bounded(response)
        except TimeoutError:
            raise GatewayTimeout(f"no answer within {timeout_s:.3g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise GatewayUnavailable(f"{type(error).__name__}: {error}") from None
        return read(operation, response.status, content)

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._limits.concurrency_max),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )
        return self._session


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return the body; raises GatewayUnavailable when it is longer than any answer of ours."""
    if response.content_length is None or response.content_length > BODY_MAX_BYTES:
        raise GatewayUnavailable(f"status {response.status} with a body of unknown or great length")
    return await response.read()
