"""W3C trace context as text: read, continued, and made of what a message is. Pure.

A *traceparent* here is canonical: `00-<trace id>-<span id>-<flags>`, or empty for none. A message's
span id is derived from its event id, so whoever sends it again says the same; so is that of its
processing, from consumer and delivery. See docs/adr/0015-span-ids-of-messages-are-derived.md.
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import Final

_WIRE: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_CANONICAL: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")
_MEMBER: Final = rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,256}"
_STATE: Final = re.compile(rb"(?=.{1,512}\Z)" + _MEMBER + rb"(?:\s*,\s*" + _MEMBER + rb"){0,31}")
_ODD: Final = frozenset("13579bdf")
_FLAGS: Final = 0x03
"""Sampled, and random trace id; W3C reserves the others, to be sent as zero."""
_LENGTH_MAX: Final = 256
_UUID_LENGTH: Final = 36
_ZERO: Final = "0" * 16


def read(raw: bytes | None) -> str:
    """Return the canonical form of a header's bytes, empty when it is none or malformed."""
    if raw is None:
        return ""
    if _CANONICAL.fullmatch(raw) is not None:
        return raw.decode()
    return parse(raw.decode("ascii", "replace"))


def parse(text: str) -> str:
    """Return the canonical form of a header's text, empty when it is malformed.

    A later version is read as far as version 00 goes, as W3C demands; flags we do not know are
    dropped.
    """
    match = _WIRE.fullmatch(text) if len(text) <= _LENGTH_MAX else None
    if match is None or (match[1] == "00" and match[5] is not None):
        return ""
    return f"00-{match[2]}-{match[3]}-{int(match[4], 16) & _FLAGS:02x}"


def read_state(raw: bytes | None, traceparent: str) -> str:
    """Return the text of a `tracestate` header that belongs to `traceparent`: vendors' own, kept as
    it came. Empty without a trace, and for what W3C lets us drop: too long, or no list of members.
    """
    if raw is None or not traceparent or _STATE.fullmatch(raw) is None:
        return ""
    return raw.decode()


def is_sampled(traceparent: str) -> bool:
    """Whether whoever began the trace wants it recorded; False for an empty traceparent."""
    return traceparent[54:55] in _ODD


def trace_id_of(traceparent: str) -> str:
    """Return the 32 hex digits of the trace, empty for an empty traceparent."""
    return traceparent[3:35]


def span_id_of(traceparent: str) -> str:
    """Return the 16 hex digits of the span, empty for an empty traceparent."""
    return traceparent[36:52]


def child(traceparent: str, span_id: str) -> str:
    """Return the context of span `span_id` in the same trace, sampled as the trace is."""
    return f"{traceparent[:36]}{span_id}{traceparent[52:]}"


def continued(traceparent: str, correlation_id: str, span_id: str) -> str:
    """Return the context of span `span_id` in the trace of `traceparent`, or without one in the
    trace that `correlation_id` stands for."""
    return child(traceparent, span_id) if traceparent else derived(correlation_id, span_id)


def derived(correlation_id: str, span_id: str) -> str:
    """Return an unsampled context in the trace that a correlation id stands for."""
    trace_id = sha1(correlation_id.encode(), usedforsecurity=False).hexdigest()[:32]
    return f"00-{trace_id}-{span_id}-00"


def span_of(event_id: str, what: str = "") -> str:
    """Return the span id of an event's message, or of `what` is done with it.

    A message's is the random half of its event id. Never zero, which W3C forbids.
    """
    if not what and len(event_id) == _UUID_LENGTH:
        span_id = event_id[19:23] + event_id[24:]
        if span_id != _ZERO:
            return span_id
    return sha1(f"{what}\0{event_id}".encode(), usedforsecurity=False).hexdigest()[:16]


def processing_span(consumer: str, event_id: str, delivery: int) -> str:
    """Return the span id of one delivery's processing: the same however often it is repeated."""
    return span_of(event_id, f"process\0{consumer}\0{delivery}")
