"""Request ids and W3C trace context: taken over when well-formed, made up otherwise.

Guarantees: what comes out is safe for headers, logs and the outbox; a client cannot smuggle
anything in. Spans are not recorded here.
"""

from __future__ import annotations

import re
from os import urandom
from typing import Final

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,127}")
_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def request_id(given: str | None) -> str:
    """Return the client's X-Request-ID if it is 8-128 plain characters, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return urandom(16).hex()


def traceparent(given: str | None) -> str:
    """Return the trace context of this request: the client's trace with a new span, or a new one.

    A malformed header, one of another version, or all zeros starts a new, unsampled trace.
    """
    span = urandom(8).hex()
    match = _TRACEPARENT.fullmatch(given) if given is not None else None
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return f"00-{urandom(16).hex()}-{span}-00"
    return f"00-{match[1]}-{span}-{match[3]}"
