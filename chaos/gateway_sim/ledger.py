"""The provider's append-only ledger: one JSON object a line, written before the reply leaves.

A line that was handed to the operating system survives kill -9 of this process; it is not synced
to disk, so a crash of the machine may lose the newest lines. One process owns a ledger at a time.
"""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class LedgerLockedError(Exception):
    """Another process has this ledger open."""


class LedgerCorruptError(Exception):
    """A complete line of the ledger cannot be read; only a torn last line is tolerated."""


class Line(msgspec.Struct, omit_defaults=False, gc=False):
    """One attempt as the provider saw it.

    `outcome` is what this attempt did: `ok` (money moved, or the key was cancelled), `declined`,
    `error` (nothing happened), `timeout` (never answered, nothing happened), `replayed` (the stored
    reply was sent again, nothing happened anew; `detail` holds the stored outcome), `in_flight`,
    `mismatch`, `cancelled`, `refused`, `already_captured`, `already_declined`, `already_refunded`.
    `replied` is False when the provider deliberately sent no reply.
    """

    op: str
    order_id: str
    idempotency_key: str
    amount_minor: int
    currency: str
    outcome: str
    replied: bool
    attempt: int
    body_hash: str
    at: datetime
    charge_key: str = ""
    payment_id: str = ""
    detail: str = ""


class Ledger:
    """An open ledger file. Lines appear in the file in the order of `append`."""

    def __init__(self, path: Path) -> None:
        """Open or create the ledger and cut off a torn last line.

        Raises LedgerLockedError when another process owns it, OSError when it cannot be opened.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.lines = 0
        self._encode = msgspec.json.Encoder().encode
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise LedgerLockedError(f"{path} is in use by another gateway") from error
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """Forget a last line without its newline: no reply for it ever left."""
        end = os.lseek(self._fd, 0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65536)
            newline = os.pread(self._fd, position - start, start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            os.ftruncate(self._fd, position)

    def read(self) -> Iterator[Line]:
        """Yield every line from the first on. Raises LedgerCorruptError for an unreadable one."""
        decode = msgspec.json.Decoder(Line).decode
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = decode(raw)
                except msgspec.MsgspecError as error:
                    raise LedgerCorruptError(f"{self.path}:{number}: {error}") from error
                self.lines += 1
                yield line

    def append(self, line: Line) -> None:
        """Write one line; when this returns, kill -9 no longer loses it. Raises OSError."""
        data = self._encode(line) + b"\n"
        written = os.write(self._fd, data)
        while written < len(data):
            written += os.write(self._fd, data[written:])
        self.lines += 1

    def close(self) -> None:
        """Give the ledger free for another process."""
        os.close(self._fd)
