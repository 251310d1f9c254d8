"""The load generator of the benches: orders on a fixed schedule over raw HTTP/1.1.

Run as a process of its own, so that its CPU is known apart. It is not `chaos.workload.generator`,
which writes a ledger and costs as much as the platform: on two cores that would measure itself.
Open model: a request leaves when it is due, whatever became of earlier ones; a request that finds
no free connection waits, and its latency counts from when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
import time
from collections import deque
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import msgspec
import uvloop

from chaos.workload.generator import read_catalogue
from chaos.workload.mix import Outcome, plan

CONNECTIONS_MAX = 256
ANSWER_TIMEOUT_S = 20.0


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """One request: Unix seconds, HTTP status (0: no answer), order id ("" unless accepted)."""

    intended_s: float
    returned_s: float
    status: int
    order_id: str


class Sent(msgspec.Struct, frozen=True):
    """All requests of one run; `late_ms` is how late the generator itself was at worst."""

    answers: list[Answer]
    began_s: float
    ended_s: float
    late_ms: float
    cpu_s: float


class Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request under way."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._due = 0.0
        self._buffer = b""
        self._busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]

    def send(self, due: float, request: bytes) -> None:
        """Send one request; the connection must be free."""
        assert self.transport is not None
        self._due, self._busy = due, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        status, body = int(head[9:12]), self._buffer[end + 4 : end + 4 + length]
        self._buffer, self._busy = b"", False
        self._sender.answered(self, self._due, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sender.lost(self, self._due if self._busy else None)


class Sender:
    """Sends prepared requests; `run` returns what became of them."""

    def __init__(
        self,
        host: str,
        port: int,
        requests: list[bytes],
        rate: float,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._host, self._port = host, port
        self._requests, self._rate = requests, rate
        self._connections_max = connections_max
        self._free: list[Connection] = []
        self._open = 0
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._answers: list[Answer] = []
        self._late_s = 0.0
        self._done = asyncio.Event()
        self._zero_s = time.time() - time.monotonic()

    async def run(self) -> Sent:
        """Send everything, wait for the answers (20 s at most after the last one left)."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(self._connect() for _ in range(8)))
        used = _cpu_s()
        began = time.monotonic() + 0.05
        number, count = 0, len(self._requests)
        while number < count:
            due = began + number / self._rate
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
                continue
            self._late_s = max(self._late_s, now - due)
            self._dispatch(due, self._requests[number], loop)
            number += 1
            if number % 64 == 0:
                await asyncio.sleep(0)  # a generator that is behind still reads its answers
        ended = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await self._done.wait()
        except TimeoutError:
            missing = count - len(self._answers)
            self._answers += [Answer(0.0, 0.0, 0, "")] * missing
        cpu_s = _cpu_s() - used
        zero = self._zero_s
        return Sent(self._answers, zero + began, zero + ended, self._late_s * 1e3, cpu_s)

    def _dispatch(self, due: float, request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        if self._free:
            self._free.pop().send(due, request)
            return
        self._waiting.append((due, request))
        if self._open < self._connections_max:
            loop.create_task(self._connect())

    async def _connect(self) -> None:
        self._open += 1
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), self._host, self._port
            )
        except OSError:
            self._open -= 1
            return
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._free.append(connection)

    def answered(self, connection: Connection, due: float, status: int, body: bytes) -> None:
        """A response is complete."""
        order_id = ""
        if 200 <= status < 300:
            order_id = msgspec.json.decode(body)["orderId"]
        self._note(due, status, order_id)
        self._next(connection)

    def lost(self, connection: Connection, due: float | None) -> None:
        """A connection ended; a request on it has no answer."""
        self._open -= 1
        if connection in self._free:
            self._free.remove(connection)
        if due is not None:
            self._note(due, 0, "")

    def _note(self, due: float, status: int, order_id: str) -> None:
        now = time.monotonic()
        self._answers.append(Answer(self._zero_s + due, self._zero_s + now, status, order_id))
        if len(self._answers) == len(self._requests):
            self._done.set()


def raw(netloc: str, body: bytes, key: str = "") -> bytes:
    """Return one order as a raw request, with an Idempotency-Key when `key` is given."""
    head = [
        "POST /api/orders HTTP/1.1",
        f"Host: {netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if key:
        head.append(f"Idempotency-Key: {key}")
    return "\r\n".join([*head, "", ""]).encode() + body


def requests(url: str, orders: int, seed: int, *, keys: bool) -> list[bytes]:
    """Happy orders of the demo's mix as raw requests, each with an Idempotency-Key if `keys`."""
    at = urlsplit(url)
    run = token_hex(4)
    catalogue = asyncio.run(read_catalogue(url))
    return [
        raw(at.netloc, msgspec.json.encode(order.body), f"{run}-{order.number}" if keys else "")
        for order in plan(orders, 1.0, seed, {Outcome.HAPPY: 1.0}, catalogue)
    ]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prepare, say so on standard output, begin when a line comes on standard input."""
    parser = argparse.ArgumentParser(prog="python -m bench.sender", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-keys", action="store_true", help="send no Idempotency-Key")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    prepared = requests(options.url, options.orders, options.seed, keys=not options.no_keys)
    at = urlsplit(options.url)
    gc.freeze()
    gc.disable()
    print("prepared", flush=True)
    sys.stdin.readline()

    async def run() -> Sent:
        return await Sender(str(at.hostname), int(at.port or 80), prepared, options.rate).run()

    options.out.write_bytes(msgspec.msgpack.encode(uvloop.run(run())))


if __name__ == "__main__":
    main()
