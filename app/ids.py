"""Deterministic identifiers: the same cause always yields the same id.

All are UUIDs of version 5 (RFC 9562), computed without `uuid.UUID` objects because they are made
several times per order. They guarantee that a repeated batch emits the same ids, which is what lets
every consumer drop the repeat.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def uuid5(namespace: str, name: str) -> str:
    """Return the canonical text of the version 5 UUID of `name` in `namespace` (a UUID's text).

    Raises ValueError when `namespace` is not a UUID.
    """
    space = bytes.fromhex(namespace.replace("-", ""))
    if len(space) != 16:
        raise ValueError(f"not a UUID: {namespace!r}")
    return _text(sha1(space + name.encode(), usedforsecurity=False).hexdigest())


def _text(digest: str) -> str:
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


@lru_cache(maxsize=8192)
def command_id(order_id: str, step: str, direction: str, attempt: int = 0) -> str:
    """Return the id of the command that moves `step` of an order in `direction`.

    Attempt 0 is the first; a higher number is only used after a definite refusal, so a re-drive
    repeats the id. Cached: the answer to a command names it again.
    """
    suffix = f":{attempt}" if attempt else ""
    return uuid5(order_id, f"{step}:{direction}{suffix}")


def event_id(cause_id: str, name: str) -> str:
    """Return the id of the event called `name` that `cause_id` brought about."""
    return uuid5(cause_id, name)


def result_id(command_id: str, state_version: int) -> str:
    """Return the id of a result: a later state is a new event, a repeat is not."""
    return uuid5(command_id, str(state_version))


def notice_id(command_id: str, outcome: str, attempt: int, at: datetime) -> str:
    """Return the id of a result that reports no state change (RETRYING, PARKED) made at `at`."""
    return uuid5(command_id, f"{outcome}:{attempt}:{int(at.timestamp() * 1000)}")


def timeout_id(order_id: str, step: str, timer: int) -> str:
    """Return the cause id of the saga timer number `timer` of an order."""
    return uuid5(order_id, f"{step}:timeout:{timer}")


def is_uuid(text: str) -> bool:
    """Tell whether `text` is a UUID in canonical form (lower case, hyphens)."""
    return _CANONICAL.fullmatch(text) is not None


def to_bytes(text: str) -> bytes:
    """Return the 16 bytes of a UUID's text, the key of the idempotency tables."""
    return bytes.fromhex(text.replace("-", ""))


def from_bytes(raw: bytes) -> str:
    """Return the canonical text of a UUID's 16 bytes."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
