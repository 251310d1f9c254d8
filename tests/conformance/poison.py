"""Every kind of record that can never be processed, made from a good one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from app.messages import Output
from app.messages.envelope import DEPTH_MAX, HEADERS_MAX, VALUE_BYTES_MAX
from app.topics import BATCH_BYTES_MAX


class Kind(NamedTuple):
    """How a good record is spoiled, and the reason its dead letter must give."""

    reason: str
    make: Callable[[Output], Output]


def spoil(kind: str, good: Output) -> Output:
    """The broken record of `kind`."""
    return POISON[kind].make(good)


def _value(value: bytes | None) -> Callable[[Output], Output]:
    return lambda good: Output(good.topic, good.key, value, good.headers)


def _header(name: str, *values: bytes) -> Callable[[Output], Output]:
    def make(good: Output) -> Output:
        kept = [pair for pair in good.headers if pair[0] != name]
        return Output(good.topic, good.key, good.value, [*kept, *((name, v) for v in values)])

    return make


def _wrong_types(good: Output) -> Output:
    assert good.value is not None
    text = good.value.decode()
    return Output(good.topic, good.key, f"[{text}]".encode(), good.headers)


def _cut(good: Output) -> Output:
    assert good.value is not None
    return Output(good.topic, good.key, good.value[:-3], good.headers)


POISON = {
    "junk bytes": Kind("bad_json", _value(b"\x00\x01\x02junk")),
    "not UTF-8": Kind("bad_json", _value(b"\xff\xfe\xfd")),
    "truncated": Kind("bad_json", _cut),
    "wrong types": Kind("bad_body", _wrong_types),
    "an empty object": Kind("bad_body", _value(b"{}")),
    "huge": Kind("too_large", _value(b'"' + b"x" * VALUE_BYTES_MAX + b'"')),
    "as large as it can be": Kind("too_large", _value(b"x" * (BATCH_BYTES_MAX - 1024))),
    "nested": Kind("too_deep", _value(b"[" * (100 * DEPTH_MAX))),
    "null value": Kind("null_value", _value(None)),
    "null key": Kind("null_key", lambda good: Output(good.topic, None, good.value, good.headers)),
    "another key": Kind(
        "wrong_key", lambda good: Output(good.topic, b"other", good.value, good.headers)
    ),
    "no headers": Kind("bad_header", lambda good: Output(good.topic, good.key, good.value, [])),
    "no id": Kind("bad_header", _header("ce_id")),
    "a bad id": Kind("bad_id", _header("ce_id", b"17")),
    "two ids": Kind("duplicate_header", _header("ce_id", b"a", b"b")),
    "a bad source": Kind("bad_header", _header("ce_source", b"\xff\xfe")),
    "another specification": Kind("bad_header", _header("ce_specversion", b"0.3")),
    "a bad attempt": Kind("bad_header", _header("x-attempt", b"often")),
    "a foreign type": Kind("unexpected_type", _header("ce_type", b"com.example.thing")),
    "many headers": Kind(
        "too_many_headers",
        lambda good: Output(
            good.topic,
            good.key,
            good.value,
            [*good.headers, *((f"h{n}", b"") for n in range(HEADERS_MAX))],
        ),
    ),
}
