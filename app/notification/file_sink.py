"""The sink that appends JSON lines to a file, and drops a repeat of an id.

Several workers may share the file: each append happens under its lock, after whatever the others
have appended was read. A line is there as a whole or not at all: a torn one (disk full, power cut)
is taken away again before the next. It survives the end of a worker, not a loss of power.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from app.errors import SinkUnavailable

if TYPE_CHECKING:
    from app.domain.notification import Message

LOCK_PAUSE_S = 0.01
CHUNK_BYTES = 1024 * 1024


class _Line(msgspec.Struct):
    id: str


_read = msgspec.json.Decoder(_Line).decode


class FileSink:
    """Appends to `path`; made with its directory at the first use."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """`timeout_s` bounds the wait for the file's lock."""
        self._path = path
        self._timeout_s = timeout_s
        self._file = -1
        self._end = 0
        self._seen: set[str] = set()

    async def hand_over(self, message: Message) -> None:
        """Append the line unless its id stands there. Raises SinkUnavailable when it cannot."""
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._file = os.open(self._path, flags, 0o600)
            async with self._locked():
                self._catch_up()
                if message.id not in self._seen:
                    self._append(msgspec.json.encode(message) + b"\n")
                    self._seen.add(message.id)
        except OSError as error:
            raise SinkUnavailable(f"{self._path}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise SinkUnavailable(f"{self._path} is not a file of notifications: {error}") from None

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Hold the file's lock; its holder may be suspended, so waiting has an end."""
        if not self._lock():  # most often nobody holds it, and a timer would be for nothing
            try:
                async with asyncio.timeout(self._timeout_s):
                    while not self._lock():
                        await asyncio.sleep(LOCK_PAUSE_S)
            except TimeoutError:
                raise SinkUnavailable(f"{self._path} is locked by another worker") from None
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _catch_up(self) -> None:
        """Read the ids of what was appended since; cut off a line that was never finished."""
        rest = b""
        while chunk := os.pread(self._file, CHUNK_BYTES, self._end + len(rest)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._seen.add(_read(line).id)
                self._end += len(line) + 1
        if rest:
            os.ftruncate(self._file, self._end)

    def _append(self, line: bytes) -> None:
        written = os.write(self._file, line)
        if written < len(line):
            os.ftruncate(self._file, self._end)
            raise OSError(28, "no space left on device")
        self._end += len(line)
