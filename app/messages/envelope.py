"""The envelope: CloudEvents 1.0 in Kafka's binary mode, read and written in one pass.

`decode` turns a record into a `Decoded` or raises `Poison` with a reason; it raises nothing else,
whatever the bytes. `emit` builds the record of a new event from its cause. Neither reads a clock or
makes a random id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from app import trace_context
from app.errors import Poison

if TYPE_CHECKING:
    from app.messages.body import Body

Headers = Sequence[tuple[str, bytes | None]]

VALUE_BYTES_MAX = 256 * 1024
HEADERS_MAX = 64
DEPTH_MAX = 32
ATTEMPT_MAX = 9999
REDRIVES_MAX = 99_999
"""Higher counts in a header are read as this, so that a delivery number fits PostgreSQL's int."""

SPECVERSION = b"1.0"
CONTENT_TYPE = b"application/json"

_READ_ONCE = frozenset({"content-type", "x-attempt", "x-retry-role"})
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOKEN = re.compile(rb"[^\x00-\x1f\x7f]{1,256}")
_ATTEMPT = re.compile(rb"[0-9]{1,4}")
_REDRIVES = re.compile(rb"[0-9]{1,19}")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class Output(msgspec.Struct, frozen=True, array_like=True):
    """One record to be sent; stored with its inbox row and sent again on every repeat.

    `partition` None means: the partition of the cause when the key is unchanged, else by hash of
    the key.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int | None = None


class Decoded(msgspec.Struct, frozen=True):
    """One record's envelope and body; `retry_role` is empty unless the record is re-delivered to
    one role.
    """

    event_id: str
    type: str
    body: Any
    attempt: int
    correlation_id: str
    causation_id: str
    traceparent: str
    source: str
    retry_role: str
    redrives: int
    tracestate: str = ""


class Caused(Protocol):
    """What `emit` needs to know of the cause of an event."""

    @property
    def event_id(self) -> str:
        """The id of the causing event."""

    @property
    def correlation_id(self) -> str:
        """The id shared by everything the first cause brought about."""

    @property
    def traceparent(self) -> str:
        """The W3C trace context of the cause, empty when it has none."""

    @property
    def tracestate(self) -> str:
        """What vendors have put beside the trace context, empty when they have not."""


class Cause(NamedTuple):
    """A cause that is not a record: an HTTP request, a saga timer."""

    event_id: str
    correlation_id: str
    traceparent: str = ""
    tracestate: str = ""


class Destination(Protocol):
    """What `emit` needs to know of a topic."""

    @property
    def name(self) -> str:
        """The topic's name."""

    @property
    def bodies(self) -> tuple[type[Body], ...]:
        """The message types the topic carries."""


class Reader(NamedTuple):
    """The cached decoder of one message type."""

    type: str
    key: str
    decoder: msgspec.json.Decoder[Any]


_READERS: dict[str, dict[bytes, Reader]] = {}
_WRITERS: dict[type[Body], tuple[bytes, str]] = {}
_encode_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Output]).decode


def register(body: type[Body], topics: Sequence[str]) -> None:
    """Make `decode` and `emit` know a message type on `topics`."""
    name = body.ce_type()
    reader = Reader(name, body.KEY, msgspec.json.Decoder(body))
    for topic in topics:
        _READERS.setdefault(topic, {})[name.encode()] = reader
    _WRITERS[body] = (name.encode(), body.KEY)


def encode(body: Body) -> bytes:
    """Return the JSON of a body: fields in declared order, so equal bodies give equal bytes."""
    return _encode_json(body)


def decode(topic: str, headers: Headers, key: bytes | None, value: bytes | None) -> Decoded:
    """Read one record of `topic`; raises Poison (and nothing else) for a record that breaks the
    contract.

    Unknown fields and unknown headers are ignored. A repeated or malformed `traceparent` counts as
    absent: tracing never costs a message.
    """
    if key is None or value is None:
        raise Poison("null_key" if key is None else "null_value")
    if len(value) > VALUE_BYTES_MAX:
        raise Poison("too_large", f"{len(value)} bytes")
    found = dict(headers)
    if len(found) != len(headers):
        _refuse_duplicates(headers, found)
    if len(headers) > HEADERS_MAX:
        raise Poison("too_many_headers", str(len(headers)))
    get = found.get
    readers = _READERS.get(topic)
    reader = readers.get(get("ce_type") or b"") if readers is not None else None
    if reader is None:
        raise _unknown_type(topic, get("ce_type"))
    if get("ce_specversion") != SPECVERSION:
        raise Poison("bad_header", "ce_specversion")
    if not (get("content-type") or CONTENT_TYPE).startswith(CONTENT_TYPE):
        raise Poison("bad_header", "content-type")
    event_id = _identifier(get("ce_id"))
    source = _source(get("ce_source"))
    correlation = get("ce_correlationid")
    causation = get("ce_causationid")
    attempt = get("x-attempt")
    role = get("x-retry-role")
    redrives = get("x-redrives")
    trace = trace_context.read(get("traceparent"))
    state = get("tracestate")
    body = _body(reader, value)
    if key != getattr(body, reader.key).encode():
        raise Poison("wrong_key", reader.key)
    if reader.key == "order_id" and _UUID.fullmatch(key) is None:
        raise Poison("bad_key", reader.key)
    return Decoded(
        event_id,
        reader.type,
        body,
        0 if attempt is None and "x-attempt" not in found else _attempt(attempt),
        event_id if correlation is None else _token("ce_correlationid", correlation),
        "" if causation is None else _token("ce_causationid", causation),
        trace,
        source,
        "" if role is None else _token("x-retry-role", role),
        0 if redrives is None else read_redrives(redrives),
        "" if state is None else trace_context.read_state(state, trace),
    )


def emit(
    cause: Caused, topic: Destination, body: Body, *, event_id: str, now: datetime, source: str
) -> Output:
    """Build the record of `body`, caused by `cause`, with exactly one `traceparent`: the trace of
    the cause, else of the correlation id, and the span that the event id gives; `tracestate` when
    the cause has one.

    Raises ValueError when the topic does not carry this type of body.
    """
    if type(body) not in topic.bodies:
        raise ValueError(f"{type(body).__name__} does not belong on {topic.name}")
    type_name, key = _WRITERS[type(body)]
    trace = trace_context.continued(
        cause.traceparent, cause.correlation_id, trace_context.span_of(event_id)
    )
    headers = [
        ("ce_specversion", SPECVERSION),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", type_name),
        ("ce_time", _rfc3339(now)),
        ("ce_correlationid", cause.correlation_id.encode()),
        ("ce_causationid", cause.event_id.encode()),
        ("content-type", CONTENT_TYPE),
        ("traceparent", trace.encode()),
    ]
    if cause.tracestate:
        headers.append(("tracestate", cause.tracestate.encode()))
    return Output(topic.name, getattr(body, key).encode(), _encode_json(body), headers)


def pack(outputs: Sequence[Output]) -> bytes:
    """Return the bytes under which outputs are stored with their inbox row."""
    return _pack(outputs)


def unpack(raw: bytes) -> list[Output]:
    """Return the outputs stored by `pack`; raises msgspec.DecodeError for anything else."""
    return _unpack(raw)


def _body(reader: Reader, value: bytes) -> Any:
    if value.count(b"{") + value.count(b"[") > DEPTH_MAX:
        _refuse_depth(value)
    try:
        body = reader.decoder.decode(value)
    except msgspec.ValidationError as exc:
        raise Poison("bad_body", str(exc)[:200]) from None
    except msgspec.DecodeError as exc:
        raise Poison("bad_json", str(exc)[:200]) from None
    except UnicodeDecodeError:
        raise Poison("bad_utf8") from None
    if b"\\u0000" in value and _has_nul(msgspec.to_builtins(body)):
        raise Poison("nul_character")
    return body


def _refuse_depth(value: bytes) -> None:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", value)):
        depth += 1 if bracket in b"{[" else -1
        if depth > DEPTH_MAX:
            raise Poison("too_deep", f"more than {DEPTH_MAX} levels")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(item) for item in value.values())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _refuse_duplicates(headers: Headers, found: dict[str, bytes | None]) -> None:
    seen = set()
    for name, _ in headers:
        if name in seen:
            if name.startswith("ce_") or name in _READ_ONCE:
                raise Poison("duplicate_header", name[:100])
            if name == "traceparent":
                found[name] = None
        seen.add(name)


def _unknown_type(topic: str, name: bytes | None) -> Poison:
    if topic not in _READERS:
        return Poison("unknown_topic", topic)
    if not name:
        return Poison("bad_header", "ce_type")
    text = name[:100].decode("utf-8", "replace")
    stem, _, version = text.rpartition(".v")
    known = any(reader.type.rpartition(".v")[0] == stem for reader in _READERS[topic].values())
    return Poison("unknown_version" if known and version.isdigit() else "unexpected_type", text)


def _identifier(raw: bytes | None) -> str:
    if raw is None:
        raise Poison("bad_header", "ce_id")
    if _UUID.fullmatch(raw) is None:
        raw = raw.lower()
        if _UUID.fullmatch(raw) is None:
            raise Poison("bad_id", raw[:100].decode("utf-8", "replace"))
    return raw.decode()


@lru_cache(maxsize=256)
def _source(raw: bytes | None) -> str:
    """A handful of producers exist, so their names are checked once."""
    return _token("ce_source", raw)


def _token(name: str, raw: bytes | None) -> str:
    if raw is None or _TOKEN.fullmatch(raw) is None:
        raise Poison("bad_header", name)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Poison("bad_header", name) from None


def _attempt(raw: bytes | None) -> int:
    if raw is None or _ATTEMPT.fullmatch(raw) is None:
        raise Poison("bad_header", "x-attempt")
    return int(raw)


def read_redrives(raw: bytes) -> int:
    """Return how often a record was redriven; what is no number counts as never."""
    return min(int(raw), REDRIVES_MAX) if _REDRIVES.fullmatch(raw) is not None else 0


@lru_cache(maxsize=64)
def _rfc3339(now: datetime) -> bytes:
    return now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()
