"""One proxy: a listening port, its connections to one upstream, and its toxics.

Guarantees: *down* (`enabled` false) closes every connection and refuses new ones until it is up
again; a changed address takes effect when the port could be bound, else nothing changes; a leased
change undoes itself. Mutating calls must not overlap: the collection sees to that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine

import msgspec

from chaos.proxy.bodies import ProxyChange, join_address, split_address
from chaos.proxy.connection import Connection
from chaos.proxy.errors import cannot_listen
from chaos.proxy.lease import Lease
from chaos.proxy.log import say
from chaos.proxy.memory import Memory
from chaos.proxy.stats import Stats
from chaos.proxy.toxic_list import ToxicList

CONNECTIONS_MAX = 1000
CONNECT_S = 10.0
BACKLOG = 512

Spawn = Callable[[Coroutine[None, None, None]], None]


class Fields(msgspec.Struct, frozen=True):
    """What an update may change."""

    listen: str
    upstream: str
    enabled: bool


class Proxy:
    """`spawn` runs a coroutine beside everything else; `undo` is called when a lease ends."""

    def __init__(
        self,
        name: str,
        fields: Fields,
        *,
        seed: str,
        memory: Memory,
        spawn: Spawn,
        undo: Callable[[Proxy], None],
    ) -> None:
        self.name = name
        self.fields = Fields(fields.listen, fields.upstream, enabled=False)
        self._asked = fields.listen
        self._memory, self._spawn, self._undo = memory, spawn, undo
        self._server: asyncio.Server | None = None
        self._all: set[Connection] = set()
        self._flowing: set[Connection] = set()
        self._accepted = 0
        self._lease: Lease | None = None
        self._before: Fields | None = None
        self.stats = Stats()
        self.toxics = ToxicList(name, f"{seed}/{name}", self._flowing)

    def document(self) -> dict[str, object]:
        """As the API shows it; `lease_ms_left` only while there is a lease."""
        shown: dict[str, object] = {
            "name": self.name,
            **msgspec.to_builtins(self.fields),
            "toxics": self.toxics.documents(),
            "stats": self.stats.document(len(self._flowing)),
        }
        if self._lease is not None:
            shown["lease_ms_left"] = self._lease.ms_left
        return shown

    async def update(self, change: ProxyChange) -> None:
        """Change fields; with a lease until it ends. Raises ApiError and changes nothing then."""
        change.check()
        before = self.fields
        await self.set(_changed(before, change))
        if change.lease_ms is None:
            if self._before is not None:
                self._before = _changed(self._before, change)
        elif self._lease is None:
            self._before = before
            self._lease = Lease(change.lease_ms, lambda: self._undo(self))
        else:
            self._lease.renew(change.lease_ms)
        say("proxy changed", proxy=self.name, lease_ms=change.lease_ms, **_shown(self.fields))

    async def end_lease(self) -> None:
        """Undo what is leased now, if anything. Raises ApiError when the port is taken."""
        if self._before is None or self._lease is None:
            return
        await self.set(self._before)
        self._forget_lease()
        say("lease ended", proxy=self.name, **_shown(self.fields))

    async def set(self, fields: Fields) -> None:
        """Make the proxy as `fields` say. Raises ApiError and changes nothing then."""
        before, moved, asked = self.fields, not self.listens_at(fields.listen), fields.listen
        if not moved:
            fields = msgspec.structs.replace(fields, listen=before.listen)
        if fields.enabled and (moved or self._server is None):
            server = await self._listen(fields.listen)
            self._stop_listening()
            self._server = server
            fields = msgspec.structs.replace(fields, listen=_address_of(server))
        elif not fields.enabled:
            self._stop_listening()
        self.fields = fields
        if moved:
            self._asked = asked
        if moved or fields.upstream != before.upstream or not fields.enabled:
            self._drop_all()

    def listens_at(self, address: str) -> bool:
        """Whether `address` is where it listens, in the words of the request or as bound."""
        wanted = split_address(address)
        return wanted in (split_address(self.fields.listen), split_address(self._asked))

    async def replace(self, fields: Fields) -> None:
        """Begin anew with other fields, without toxics. Raises ApiError, nothing changes then."""
        await self.set(fields)
        self._forget_lease()
        self.toxics.clear()

    def close(self) -> None:
        """End the proxy for good: nothing listens, no connection is left."""
        self._forget_lease()
        self._stop_listening()
        self._drop_all()
        self.toxics.clear()

    def _forget_lease(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
        self._before = self._lease = None

    async def _listen(self, address: str) -> asyncio.Server:
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(
                lambda: self._accept().client, host or None, port, backlog=BACKLOG
            )
        except (OSError, UnicodeError) as error:
            number = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(number) if number and number > 0 else str(error)
            raise cannot_listen(address, reason) from None

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _drop_all(self) -> None:
        self.stats.of.closed += len(self._flowing)
        for connection in list(self._all):
            connection.drop()

    def _accept(self) -> Connection:
        self._accepted += 1
        return Connection(
            number=self._accepted,
            stats=self.stats,
            memory=self._memory,
            on_open=self._opened,
            on_flow=self._flows,
            on_over=self._over,
        )

    def _opened(self, connection: Connection) -> None:
        self.stats.of.connections += 1
        if self._server is None or len(self._all) >= CONNECTIONS_MAX:
            self.stats.of.refused += 1
            connection.drop()
            return
        self._all.add(connection)
        self._spawn(self._connect(connection))

    def _flows(self, connection: Connection) -> None:
        self._flowing.add(connection)
        self.toxics.infect(connection)

    def _over(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._flowing.discard(connection)

    async def _connect(self, connection: Connection) -> None:
        """Connect the upstream side; a client whose server is not there is closed."""
        host, port = split_address(self.fields.upstream)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: connection.server, host, port)
        except (OSError, TimeoutError) as error:
            self.stats.of.refused += 1
            say("upstream not reached", proxy=self.name, error=str(error) or repr(error))
            connection.drop()


def _changed(fields: Fields, change: ProxyChange) -> Fields:
    return Fields(
        fields.listen if change.listen is None else change.listen,
        fields.upstream if change.upstream is None else change.upstream,
        fields.enabled if change.enabled is None else change.enabled,
    )


def _address_of(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return join_address(host, port)


def _shown(fields: Fields) -> dict[str, object]:
    shown: dict[str, object] = msgspec.to_builtins(fields)
    return shown
