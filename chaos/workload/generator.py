"""The open-model generator: requests leave when they are due, whatever became of earlier ones.

Guarantees: latency counts from the intended send time, so a slow platform cannot hide behind a slow
client; every request is in the ledger before it leaves; the number in flight is bounded, and what
would exceed it is not sent (`fail`, `in_flight_max`). A broken connection, a timeout and a 5xx are
`unknown`, except a 503 that says nothing was tried.

What is unknown is asked for again with the same key and body, as a client would; so are some of the
accepted orders, and some are with another body. Such requests leave beside the schedule, count in a
bound of their own and are ledger lines of their own kinds: whoever counts orders counts `create`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Literal

import aiohttp
import msgspec

from chaos.workload.ledger import Kind, LedgerFile, Line, Result
from chaos.workload.mix import Order, Product, other_body

#: Problem codes of a 503 by which the API says that it did not begin.
NOT_BEGUN = frozenset({"overloaded"})
PRODUCTS_MAX = 200
CATALOGUE_S = 20.0
CATALOGUE_PAUSE_S = 0.5
#: Before the retries: the last one finds a killed API that is started again (some 6 s in a lab).
RETRY_PAUSES_S = (0.5, 2.0, 8.0)
#: Of a request that uses a key again; a shorter timeout of the load holds for it, too.
AGAIN_TIMEOUT_S = 5.0


class Load:
    """One run of a plan against the API at `url`.

    `lines` are the returned ones, as they come. `in_flight` counts orders without the answers to
    their first request and its cancellation, `asking_again` those after that: at most
    `in_flight_max` each, nothing is asked again beyond it. What is unknown is asked for again after
    each of `retry_pauses_s` until it is known; without any, never.
    """

    def __init__(
        self,
        url: str,
        ledger: LedgerFile,
        *,
        run: str,
        in_flight_max: int = 2_000,
        timeout_s: float = 15.0,
        retry_pauses_s: Sequence[float] = RETRY_PAUSES_S,
    ) -> None:
        self._url = url.rstrip("/")
        self._ledger = ledger
        self._run = run
        self._in_flight_max = in_flight_max
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._again_timeout = aiohttp.ClientTimeout(total=min(timeout_s, AGAIN_TIMEOUT_S))
        self._retry_pauses_s = retry_pauses_s
        self._zero_s = time.time() - time.monotonic()
        self.lines: list[Line] = []
        self.sent = 0
        self.in_flight = 0
        self.asking_again = 0

    async def run(
        self, orders: Iterable[Order], progress: Callable[[Load], None] = lambda _: None
    ) -> None:
        """Send all orders at their due times, then wait for the answers; bounded by the timeouts.

        `progress` is called about once a second.
        """
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session:
            ticker = asyncio.create_task(self._tick(progress))
            try:
                async with asyncio.TaskGroup() as group:
                    await self._dispatch(group, session, orders)
            finally:
                ticker.cancel()

    @property
    def answered(self) -> int:
        """How many orders were accepted so far."""
        return sum(line.outcome == "ok" and line.kind == "create" for line in self.lines)

    async def _dispatch(
        self, group: asyncio.TaskGroup, session: aiohttp.ClientSession, orders: Iterable[Order]
    ) -> None:
        start_s = time.monotonic()
        for order in orders:
            wait_s = start_s + order.due_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            line = self._line(order, start_s + order.due_s)
            self.sent += 1
            if self.in_flight >= self._in_flight_max:
                self._returned(line, "fail", detail="in_flight_max: not sent")
                continue
            self.in_flight += 1
            group.create_task(self._place(session, order, line))

    async def _tick(self, progress: Callable[[Load], None]) -> None:
        while True:
            await asyncio.sleep(1.0)
            progress(self)

    def _line(self, order: Order, intended_s: float) -> Line:
        key = f"{self._run}-{order.number}"
        return Line(
            op=key,
            kind="create",
            outcome="sent",
            expected=order.expected,
            idempotency_key=key,
            request_id=key,
            body_hash=_hash(msgspec.json.encode(order.body)),
            intended_s=self._zero_s + intended_s,
        )

    async def _place(self, session: aiohttp.ClientSession, order: Order, line: Line) -> None:
        try:
            first = await self._ask(session, order.body, line, self._timeout)
            if first.outcome == "ok" and order.cancel_after_s is not None:
                await self._cancel(session, order, line, first.order_id)
        finally:
            self.in_flight -= 1
        if self.asking_again >= self._in_flight_max:
            return
        self.asking_again += 1
        try:
            await self._ask_again(session, order, first)
        finally:
            self.asking_again -= 1

    async def _ask_again(self, session: aiohttp.ClientSession, order: Order, first: Line) -> None:
        """Use the key of an order again, as its plan and its first answer want it."""
        if first.outcome == "unknown":
            await self._retry(session, order, first)
        if first.outcome == "ok" and order.repeated:
            await self._further(session, order.body, first, "repeat", "repeat-1")
        if first.outcome == "ok" and order.contested:
            await self._further(session, other_body(order.body), first, "conflict", "conflict")

    async def _retry(self, session: aiohttp.ClientSession, order: Order, first: Line) -> None:
        """Repeat an unknown request until it is accepted or refused for good, a few times."""
        for number, pause_s in enumerate(self._retry_pauses_s, start=1):
            await asyncio.sleep(pause_s)
            done = await self._further(session, order.body, first, "repeat", f"repeat-{number}")
            if done.outcome == "ok" or 400 <= done.status < 500:
                return

    async def _further(
        self,
        session: aiohttp.ClientSession,
        body: dict[str, Any],
        first: Line,
        kind: Kind,
        name: str,
    ) -> Line:
        """Send a request with the key of `first`; return its last line."""
        line = Line(
            op=f"{first.op}-{name}",
            kind=kind,
            outcome="sent",
            expected=first.expected,
            idempotency_key=first.idempotency_key,
            request_id=f"{first.op}-{name}",
            body_hash=_hash(msgspec.json.encode(body)),
            intended_s=self._zero_s + time.monotonic(),
        )
        return await self._ask(session, body, line, self._again_timeout)

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        body: dict[str, Any],
        line: Line,
        timeout: aiohttp.ClientTimeout,
    ) -> Line:
        """Ask for an order; return the last line of the request."""
        headers = {
            "Idempotency-Key": line.idempotency_key,
            "X-Request-ID": line.request_id,
            "Content-Type": "application/json",
        }
        raw = msgspec.json.encode(body)
        return await self._send(session, "/api/orders", headers, raw, line, timeout)

    async def _cancel(
        self, session: aiohttp.ClientSession, order: Order, created: Line, order_id: str
    ) -> None:
        assert order.cancel_after_s is not None
        intended_s = time.monotonic() + order.cancel_after_s
        await asyncio.sleep(order.cancel_after_s)
        raw = msgspec.json.encode({"reason": "changed my mind"})
        line = Line(
            op=f"{created.op}-cancel",
            kind="cancel",
            outcome="sent",
            expected=created.expected,
            request_id=f"{created.op}-cancel",
            body_hash=_hash(raw),
            intended_s=self._zero_s + intended_s,
            order_id=order_id,
        )
        headers = {"X-Request-ID": line.request_id, "Content-Type": "application/json"}
        path = f"/api/orders/{order_id}/cancel"
        await self._send(session, path, headers, raw, line, self._timeout)

    async def _send(
        self,
        session: aiohttp.ClientSession,
        path: str,
        headers: dict[str, str],
        raw: bytes,
        line: Line,
        timeout: aiohttp.ClientTimeout,
    ) -> Line:
        """Send one request and write both its lines; return the second."""
        line = msgspec.structs.replace(line, sent_s=self._zero_s + time.monotonic())
        self._ledger.append(line)
        try:
            async with session.post(
                self._url + path, data=raw, headers=headers, timeout=timeout
            ) as response:
                answer = await response.read()
                status = response.status
        except aiohttp.ClientConnectorError as error:
            return self._returned(line, "fail", detail=f"not connected: {error}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._returned(line, "unknown", detail=f"{type(error).__name__}: {error}")
        outcome, order_id, detail = judge(status, answer)
        reply_hash = _hash(answer) if outcome == "ok" else ""
        return self._returned(
            line, outcome, status=status, order_id=order_id, detail=detail, reply_hash=reply_hash
        )

    def _returned(
        self,
        line: Line,
        outcome: Result,
        *,
        status: int = 0,
        order_id: str = "",
        detail: str = "",
        reply_hash: str = "",
    ) -> Line:
        done = msgspec.structs.replace(
            line,
            outcome=outcome,
            status=status,
            order_id=order_id or line.order_id,
            detail=detail,
            reply_hash=reply_hash,
            returned_s=self._zero_s + time.monotonic(),
        )
        self._ledger.append(done)
        self.lines.append(done)
        return done


def _hash(raw: bytes) -> str:
    return blake2b(raw, digest_size=16).hexdigest()


def judge(status: int, answer: bytes) -> tuple[Literal["ok", "fail", "unknown"], str, str]:
    """Return outcome, order id and detail of an answer, by what it proves about the effect."""
    try:
        body: Any = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        body = None
    members = body if isinstance(body, dict) else {}
    order_id = members.get("orderId")
    if 200 <= status < 300:
        if isinstance(order_id, str) and order_id:
            return "ok", order_id, ""
        return "unknown", "", "a success without an orderId"
    code = str(members.get("code", ""))
    detail = f"{status} {code}: {members.get('detail', '')}"
    if 400 <= status < 500 or (status == 503 and code in NOT_BEGUN):
        return "fail", "", detail
    return "unknown", "", detail


async def read_catalogue(url: str) -> list[Product]:
    """Return the products on sale; an API that does not answer is asked again meanwhile.

    Raises aiohttp.ClientError, TimeoutError or msgspec errors, the last seen.
    """
    deadline_s = time.monotonic() + CATALOGUE_S
    while True:
        try:
            return await _catalogue(url, max(1.0, deadline_s - time.monotonic()))
        except (aiohttp.ClientError, TimeoutError):
            if time.monotonic() > deadline_s:
                raise
        await asyncio.sleep(CATALOGUE_PAUSE_S)


async def _catalogue(url: str, timeout_s: float) -> list[Product]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    address = f"{url.rstrip('/')}/api/products?limit={PRODUCTS_MAX}"
    async with (
        aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
        session.get(address) as response,
    ):
        page = msgspec.json.decode(await response.read(), type=dict[str, Any])
    return msgspec.convert(page["products"], list[Product])
