"""One client's connection: the client's socket, the server's, and a link in each direction.

Ends are passed on as they are: a half close stays one, a broken side breaks the other by RST.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from typing import cast

from chaos.proxy.items import End, Item
from chaos.proxy.link import Link
from chaos.proxy.memory import Memory
from chaos.proxy.stats import Stats

FLUSH_S = 5.0
"""How long a closed connection may take to write what was let pass."""
_NO_LINGER = struct.pack("ii", 1, 0)


class Side(asyncio.Protocol):
    """One socket: the source of a link and the target of the other."""

    def __init__(
        self,
        on_open: Callable[[], None],
        on_ended: Callable[[], None],
        on_lost: Callable[[Side], None],
    ) -> None:
        self._on_open, self._on_ended, self._on_lost = on_open, on_ended, on_lost
        self.transport: asyncio.Transport | None = None
        self.outgoing: Link | None = None
        self.incoming: Link | None = None
        self.ended = self.lost = False
        self._reading = True
        self._early: list[Item] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected and read, unless `on_open` calls `wait`."""
        self.transport = cast("asyncio.Transport", transport)
        # Every write is tried at once, so that slices are sent as slices.
        self.transport.set_write_buffer_limits(high=0)
        self._on_open()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whomever."""
        self.ended = self.lost = True
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Bytes for the other side."""
        self._pass_on(data)

    def eof_received(self) -> bool:
        """A half close: the other direction stays open."""
        self.ended = True
        self._pass_on(End.FIN)
        self._on_ended()
        return True

    def wait(self) -> None:
        """Pass nothing on before `flow`; uvloop reads once even so, and that is kept."""
        self._early = []

    def flow(self) -> None:
        """Pass on what came early, and read on."""
        early, self._early = self._early or [], None
        for item in early:
            self._pass_on(item)
        self.read(True)

    def _pass_on(self, item: Item) -> None:
        if self._early is not None:
            self._early.append(item)
            self.read(False)
        elif self.outgoing is not None:
            self.outgoing.feed(item)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        if self.incoming is not None:
            self.incoming.block(True)

    def resume_writing(self) -> None:
        """The socket takes again."""
        if self.incoming is not None:
            self.incoming.block(False)

    def read(self, wanted: bool) -> None:
        """Read from the socket, or stop."""
        if self.transport is None or wanted == self._reading or self.transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Send; unsent bytes wait in the transport."""
        assert self.transport is not None, "nothing flows before both sides are connected"
        self.transport.write(data)

    def finish(self) -> None:
        """Send FIN after what was written."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        """Close after what was written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self, *, reset: bool = False) -> None:
        """Close now; with `reset` by TCP RST instead of FIN, whatever is unsent is gone."""
        if self.transport is None or self.lost:
            return
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()


class Connection:
    """`on_open` is called when the client has connected: connect `server` then.

    `on_flow` is called when the server has, before any byte flows, `on_over` when both are closed.
    """

    def __init__(
        self,
        *,
        number: int,
        stats: Stats,
        memory: Memory,
        on_open: Callable[[Connection], None],
        on_flow: Callable[[Connection], None],
        on_over: Callable[[Connection], None],
    ) -> None:
        self.number, self._stats, self._on_over = number, stats, on_over
        self._on_open, self._on_flow = on_open, on_flow
        self._loop = asyncio.get_running_loop()
        self.client = Side(self._client_open, self._side_ended, self._side_lost)
        self.server = Side(self._server_open, self._side_ended, self._side_lost)
        self.over = self._flowing = False
        self.links: Mapping[str, Link] = {
            "upstream": self._link("upstream", self.client, self.server, memory),
            "downstream": self._link("downstream", self.server, self.client, memory),
        }

    def _link(self, stream: str, source: Side, target: Side, memory: Memory) -> Link:
        link = Link(
            write=target.write,
            on_end=lambda end: self._end(end, source, target),
            read=source.read,
            stats=self._stats.streams[stream],
            memory=memory,
            loop=self._loop,
        )
        source.outgoing = target.incoming = link
        return link

    def _client_open(self) -> None:
        self.client.wait()
        self._on_open(self)

    def _server_open(self) -> None:
        if self.over:
            self.server.abort()
            return
        self._flowing = True
        self._on_flow(self)
        self.client.flow()
        if self.client.lost:
            self._side_lost(self.client)
        self._side_ended()

    def drop(self, *, reset: bool = False) -> None:
        """Close both sides now."""
        self._stop()
        self.client.abort(reset=reset)
        self.server.abort(reset=reset)

    def _end(self, end: End, source: Side, target: Side) -> None:
        """A direction has ended."""
        match end:
            case End.RESET:
                self._stats.of.resets += 1
                self.drop(reset=True)
            case End.CLOSE:
                self._stats.of.closed += 1
                self._close()
            case End.LOST:
                self._stop()
                target.abort(reset=True)
                source.abort()
            case End.FIN if target.lost or all(link.finished for link in self.links.values()):
                target.finish()
                self._close()
            case End.FIN:
                target.finish()

    def _close(self) -> None:
        """Close both sides when what was let pass is written, or after FLUSH_S."""
        self._stop()
        for side in (self.client, self.server):
            side.close()
            self._loop.call_later(FLUSH_S, side.abort)

    def _stop(self) -> None:
        """Nothing is passed on from now on."""
        if self.over:
            return
        self.over = True
        for link in self.links.values():
            link.close()
        self._tell_when_over()

    def _side_ended(self) -> None:
        """Close when both sides have ended and toxics have swallowed that."""
        if self.over or not self._flowing:
            return
        if self.client.ended and self.server.ended and all(x.over for x in self.links.values()):
            self._close()

    def _side_lost(self, side: Side) -> None:
        if not self.over and self._flowing and side.incoming and side.outgoing:
            side.incoming.deafen()
            side.outgoing.feed(End.LOST)
            if self.client.lost and self.server.lost:
                self._stop()
            self._side_ended()
        self._tell_when_over()

    def _tell_when_over(self) -> None:
        sides = (self.client, self.server)
        if self.over and all(side.lost or side.transport is None for side in sides):
            self._on_over(self)
