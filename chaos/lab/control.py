"""The supervisor's control socket: one JSON request line, one JSON answer line, per connection.

A request is `{"call": NAME, "arguments": {...}}`, the answer `{"result": ...}` or
`{"error": TEXT}`.
The socket lies in the lab's directory and is readable by its owner only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

from chaos.lab.plan import LabFiles
from chaos.lab.process import LabError

Call = Callable[..., Awaitable[Any]]
LINE_MAX_BYTES = 1024 * 1024


class CallTable(Protocol):
    """What the socket offers, by name."""

    def table(self) -> Mapping[str, Call]:
        """Names and coroutine functions; their parameters are the call's arguments."""


@asynccontextmanager
async def serve(files: LabFiles, calls: CallTable) -> AsyncIterator[None]:
    """Answer calls while the context is open; the socket file is removed at its end."""
    table = calls.table()
    files.socket.unlink(missing_ok=True)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(json.dumps(await _answer(table, line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            return  # the caller went away, or sent more than a line may hold
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    with files.socket_address() as address:
        server = await asyncio.start_unix_server(handle, address, limit=LINE_MAX_BYTES)
    files.socket.chmod(0o600)
    try:
        yield
    finally:
        server.close()
        files.socket.unlink(missing_ok=True)


async def _answer(table: Mapping[str, Call], line: bytes) -> dict[str, Any]:
    """The answer to one request; a defect of ours is told to the caller and to the log."""
    try:
        request = json.loads(line)
        name, arguments = request["call"], request.get("arguments") or {}
        if name not in table:
            raise LabError(f"the supervisor has no call {name!r}")
        return {"result": await table[name](**arguments)}
    except LabError as error:
        return {"error": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"the supervisor failed: {error!r} (see its log)"}
