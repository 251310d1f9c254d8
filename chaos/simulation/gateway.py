"""The payment provider in memory: the simulator's own server and books, reached without a socket.

`GatewayServer` and `Provider` are those of `chaos.gateway_sim`; only ledger file and HTTP transport
are replaced. A request that has arrived is served to its end, whether or not its client still
lives; a reply can be lost on the way back.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp

from chaos.gateway_sim.provider import Behaviour, Provider
from chaos.gateway_sim.server import GatewayServer
from chaos.simulation.process import WorkerEnded, current

if TYPE_CHECKING:
    from chaos.gateway_sim.ledger import Line
    from chaos.simulation.world import World


class MemoryLedger:
    """The provider's books."""

    def __init__(self) -> None:
        self.entries: list[Line] = []

    @property
    def lines(self) -> int:
        """How many attempts are written."""
        return len(self.entries)

    def append(self, line: Line) -> None:
        """Write one attempt."""
        self.entries.append(line)


class Gateway:
    """One provider with its books; `behaviour` may be changed at any time."""

    def __init__(self, world: World, behaviour: Behaviour) -> None:
        self._world = world
        self.ledger = MemoryLedger()
        self.provider = Provider(behaviour)
        self._server = GatewayServer(self.provider, self.ledger)  # type: ignore[arg-type]

    def behave(self, behaviour: Behaviour) -> None:
        """Change how it answers; hanging requests end, as after PUT /v1/mode."""
        self.provider.behaviour = behaviour
        self._server._mode_changed.set()
        self._server._mode_changed = asyncio.Event()

    async def serve(self, request: Request) -> None:
        """Serve one request in the kernel; the reply travels back."""
        response: Any = await self._server.handle(request)  # type: ignore[arg-type]
        self._world.note("gateway", request.raw_path, response.status, self.ledger.lines)
        if not request.transport.aborted:
            await self._world.travel("gateway")
            if not request.answer.done():
                request.answer.set_result(response)


class Transport:
    """Where a request came from; the server may hang up."""

    def __init__(self, answer: asyncio.Future[Any]) -> None:
        self._answer = answer
        self.aborted = False

    def abort(self) -> None:
        """Hang up without an answer."""
        self.aborted = True
        if not self._answer.done():
            self._answer.set_exception(aiohttp.ServerDisconnectedError())


class Request:
    """What the server reads of a request."""

    method = "POST"

    def __init__(self, path: str, headers: dict[str, str], body: bytes, answer: Any) -> None:
        self.raw_path = path
        self.headers = headers
        self.answer = answer
        self.transport = Transport(answer)
        self._body = body

    async def read(self) -> bytes:
        """The body."""
        return self._body


class Response:
    """What the client reads of a response."""

    def __init__(self, served: Any) -> None:
        self.status: int = served.status
        self._body: bytes = served.body or b""
        self.content_length = len(self._body)

    async def read(self) -> bytes:
        """The body."""
        return self._body


class Session:
    """`aiohttp.ClientSession` as far as `app.gateway.client` uses it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._process = current()

    def post(self, url: Any, *, data: bytes, headers: dict[str, str], **_: Any) -> Exchange:
        """Prepare one exchange."""
        return Exchange(self._world, self._process, url.raw_path, headers, data)

    async def close(self) -> None:
        """Nothing is open."""


class Exchange:
    """One request and its response, as an async context manager."""

    def __init__(self, world: World, process: Any, path: str, headers: Any, data: bytes) -> None:
        self._world, self._process = world, process
        self._path, self._headers, self._data = path, headers, data

    async def __aenter__(self) -> Response:
        world = self._world
        if not self._process.alive:
            raise WorkerEnded
        await world.travel("gateway")
        if world.faults.refuses_connection():
            raise aiohttp.ClientConnectionError("connection refused")
        answer: asyncio.Future[Any] = world.loop.create_future()
        request = Request(self._path, self._headers, self._data, answer)
        world.loop.spawn(world.loop.kernel, world.gateway.serve(request))
        return Response(await answer)

    async def __aexit__(self, *_: object) -> None:
        """Nothing is kept."""


def http_of(world: World) -> Any:
    """Stand in for the module `aiohttp` in the gateway's client."""
    return SimpleNamespace(
        ClientSession=lambda **_: Session(world),
        TCPConnector=lambda **_: None,
        DummyCookieJar=lambda: None,
        ClientTimeout=lambda **_: None,
        ClientError=aiohttp.ClientError,
    )
