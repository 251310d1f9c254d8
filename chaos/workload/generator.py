"""The open-model generator: requests leave when they are due, whatever became of earlier ones.

Guarantees: latency counts from the intended send time, so a slow platform cannot hide behind a slow
client; every request is in the ledger before it leaves; the number in flight is bounded, and what
would exceed it is not sent (`fail`, `in_flight_max`). A broken connection, a timeout and a 5xx are
`unknown`, except a 503 that says nothing was tried.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, Literal

import aiohttp
import msgspec

from chaos.workload.ledger import LedgerFile, Line, Result
from chaos.workload.mix import Order, Product

#: Problem codes of a 503 by which the API says that it did not begin.
NOT_BEGUN = frozenset({"overloaded"})
PRODUCTS_MAX = 200
CATALOGUE_PAUSE_S = 0.5


class Load:
    """One run of a plan against the API at `url`.

    `lines` are the returned ones, as they come; `in_flight` counts orders without all answers.
    """

    def __init__(
        self,
        url: str,
        ledger: LedgerFile,
        *,
        run: str,
        in_flight_max: int = 2_000,
        timeout_s: float = 15.0,
    ) -> None:
        self._url = url.rstrip("/")
        self._ledger = ledger
        self._run = run
        self._in_flight_max = in_flight_max
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._zero_s = time.time() - time.monotonic()
        self.lines: list[Line] = []
        self.sent = 0
        self.in_flight = 0

    async def run(
        self, orders: Iterable[Order], progress: Callable[[Load], None] = lambda _: None
    ) -> None:
        """Send all orders at their due times, then wait for the answers; bounded by the timeout.

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
        raw = msgspec.json.encode(order.body)
        return Line(
            op=key,
            kind="create",
            outcome="sent",
            expected=order.expected,
            idempotency_key=key,
            request_id=key,
            body_hash=blake2b(raw, digest_size=16).hexdigest(),
            intended_s=self._zero_s + intended_s,
        )

    async def _place(self, session: aiohttp.ClientSession, order: Order, line: Line) -> None:
        headers = {
            "Idempotency-Key": line.idempotency_key,
            "X-Request-ID": line.request_id,
            "Content-Type": "application/json",
        }
        raw = msgspec.json.encode(order.body)
        try:
            order_id = await self._send(session, "/api/orders", headers, raw, line)
            if order_id and order.cancel_after_s is not None:
                await self._cancel(session, order, line, order_id)
        finally:
            self.in_flight -= 1

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
            body_hash=blake2b(raw, digest_size=16).hexdigest(),
            intended_s=self._zero_s + intended_s,
            order_id=order_id,
        )
        headers = {"X-Request-ID": line.request_id, "Content-Type": "application/json"}
        await self._send(session, f"/api/orders/{order_id}/cancel", headers, raw, line)

    async def _send(
        self,
        session: aiohttp.ClientSession,
        path: str,
        headers: dict[str, str],
        raw: bytes,
        line: Line,
    ) -> str:
        """Send one request and write both its lines; return the order id of an accepted one."""
        line = msgspec.structs.replace(line, sent_s=self._zero_s + time.monotonic())
        self._ledger.append(line)
        try:
            async with session.post(self._url + path, data=raw, headers=headers) as response:
                answer = await response.read()
                status = response.status
        except aiohttp.ClientConnectorError as error:
            self._returned(line, "fail", detail=f"not connected: {error}")
            return ""
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._returned(line, "unknown", detail=f"{type(error).__name__}: {error}")
            return ""
        outcome, order_id, detail = judge(status, answer)
        self._returned(line, outcome, status=status, order_id=order_id, detail=detail)
        return order_id if outcome == "ok" else ""

    def _returned(
        self, line: Line, outcome: Result, *, status: int = 0, order_id: str = "", detail: str = ""
    ) -> None:
        done = msgspec.structs.replace(
            line,
            outcome=outcome,
            status=status,
            order_id=order_id or line.order_id,
            detail=detail,
            returned_s=self._zero_s + time.monotonic(),
        )
        self._ledger.append(done)
        self.lines.append(done)


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


async def read_catalogue(url: str, timeout_s: float = 20.0) -> list[Product]:
    """Return the products on sale; an API that does not answer is asked again meanwhile.

    Raises aiohttp.ClientError, TimeoutError or msgspec errors, the last seen.
    """
    deadline_s = time.monotonic() + timeout_s
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
