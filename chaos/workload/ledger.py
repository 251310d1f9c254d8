"""The ledger of a load: what was asked of the platform and what it answered, as JSON lines.

Guarantees: a line with outcome `sent` stands in the file before its request leaves, a second one
follows when the answer is known; lines are only appended. A request without a second line has an
unknown outcome. Lines survive kill -9 of the generator, not a crash of the machine.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

Kind = Literal["create", "repeat", "conflict", "cancel"]
Result = Literal["sent", "ok", "fail", "unknown"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One request at one moment; times are Unix seconds, `returned_s` 0 while not returned.

    A `create` is the first request for an order, the only one of its key; `repeat` is the same key
    with the same body, `conflict` the same key with another body. Each has its own `op`.
    `fail` means that the request surely had no effect, `unknown` that it may have had one.
    `status` is the HTTP status, 0 without an answer; `detail` says why it is not `ok`;
    `reply_hash` is that of the bytes of an `ok` answer.
    """

    op: str
    kind: Kind
    outcome: Result
    expected: str
    idempotency_key: str = ""
    request_id: str = ""
    body_hash: str = ""
    intended_s: float = 0.0
    sent_s: float = 0.0
    returned_s: float = 0.0
    status: int = 0
    order_id: str = ""
    detail: str = ""
    reply_hash: str = ""


class LedgerFile:
    """An open ledger; use it as a context manager. Raises OSError when it cannot be written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._encode = msgspec.json.Encoder().encode
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, line: Line) -> None:
        """Write one line; when this returns, kill -9 no longer loses it."""
        data = self._encode(line) + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
