"""What the auditor reads of a message's body: plain JSON, with no knowledge of the types."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

_NOT_AFTER = re.compile(rb'"not_after":"[^"]*"')
_BIGGEST = 2**62


class Facts(msgspec.Struct, gc=False):
    """The members any invariant asks about; absent ones are None."""

    order_id: str | None = None
    total_minor: int | None = None
    currency: str | None = None
    status: str | None = None
    reason: str | None = None
    saga_version: int | None = None
    operation: str | None = None
    outcome: str | None = None
    state_version: int | None = None
    created_at: str | None = None
    held: bool | None = None
    approved: bool | None = None
    level: str | None = None
    restocked: int | None = None


_decode: Callable[[bytes], Facts] = msgspec.json.Decoder(Facts).decode
NOTHING = Facts()


def read(value: bytes | None) -> Facts | None:
    """The facts of a body; None when it is not a JSON object with members of the right kind."""
    if value is None:
        return None
    try:
        facts = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    numbers = (facts.total_minor, facts.saga_version, facts.state_version, facts.restocked)
    if any(number is not None and abs(number) > _BIGGEST for number in numbers):
        return None
    return facts


def fingerprint(value: bytes | None) -> bytes | None:
    """The bytes that must be the same in every repeat of an event.

    A command that is sent again is the same command with a later deadline: that member is left out.
    """
    if value is None or b'"not_after"' not in value:
        return value
    return _NOT_AFTER.sub(b"", value)
