"""A mail server within the test: takes mail, or misbehaves in one way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Literal

Manner = Literal["takes", "refuses", "hangs", "drips", "never answers", "never says goodbye"]


class SmtpServer:
    """Speaks as much SMTP as a client needs; `mails` is what was sent to it."""

    def __init__(self, manner: Manner = "takes", at_once: int = 1) -> None:
        """With `at_once` above 1 it takes mails only that many at a time."""
        self.manner: Manner = manner
        self.mails: list[EmailMessage] = []
        self.open = 0
        self._together = asyncio.Barrier(at_once)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open += 1
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.manner == "drips":
            writer.write(b"2")
            await writer.drain()
            await asyncio.sleep(0.02)
        if self.manner == "hangs":
            await reader.read()  # until the client has gone
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            match line.split()[0].upper():
                case b"RCPT" if self.manner == "refuses":
                    writer.write(b"550 nobody of that name\r\n")
                case b"DATA":
                    writer.write(b"354 go on\r\n")
                    await self._take(await reader.readuntil(b"\r\n.\r\n"))
                    if self.manner == "never answers":
                        await reader.read()
                    writer.write(b"250 taken\r\n")
                case b"QUIT" if self.manner == "never says goodbye":
                    await reader.read()
                case _:
                    writer.write(b"250 yes\r\n")

    async def _take(self, raw: bytes) -> None:
        await self._together.wait()
        raw = raw.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
        found: Any = message_from_bytes(raw, policy=policy.default)
        self.mails.append(found)


@asynccontextmanager
async def listening(server: SmtpServer) -> AsyncIterator[int]:
    """Run it on a free port."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
