"""Records that failed: how they travel to a retry tier, to a dead-letter topic, and back.

Pure builders over a consumed record. Key, value, partition and every foreign header are kept as
they came; the `x-` headers below are replaced, never appended. Where a record first failed
(`x-original-*`, `x-first-failed-at`) is written once and kept through tiers, dead letter and
redrive.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from app import trace_context
from app.errors import Poison, SymphonyError
from app.messages.envelope import ATTEMPT_MAX, Headers, Output, read_redrives

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ORIGINAL_TOPIC = "x-original-topic"
ORIGINAL_PARTITION = "x-original-partition"
ORIGINAL_OFFSET = "x-original-offset"
ORIGINAL_TIMESTAMP = "x-original-timestamp"
RETRY_ROLE = "x-retry-role"
ATTEMPT = "x-attempt"
DUE_AT = "x-due-at"
FIRST_FAILED_AT = "x-first-failed-at"
ERROR_CLASS = "x-error-class"
ERROR_MESSAGE = "x-error-message"
ERROR_REASON = "x-error-reason"
REDRIVES = "x-redrives"
TRACEPARENT = "traceparent"

STABLE_OF = {"payment.requested.canary": "payment.requested"}
"""The stable arm's topic by the canary's: the same commands under the same ids."""

_OURS = frozenset(
    {
        ORIGINAL_TOPIC,
        ORIGINAL_PARTITION,
        ORIGINAL_OFFSET,
        ORIGINAL_TIMESTAMP,
        RETRY_ROLE,
        ATTEMPT,
        DUE_AT,
        FIRST_FAILED_AT,
        ERROR_CLASS,
        ERROR_MESSAGE,
        ERROR_REASON,
        REDRIVES,
    }
)
_ON_DELIVERY = (
    ORIGINAL_TOPIC,
    ORIGINAL_PARTITION,
    ORIGINAL_OFFSET,
    ORIGINAL_TIMESTAMP,
    RETRY_ROLE,
    ATTEMPT,
    FIRST_FAILED_AT,
    REDRIVES,
)
_ORIGIN = (ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET)
_IDENTITY = (*_ORIGIN, RETRY_ROLE, ATTEMPT, REDRIVES)
_MESSAGE_BYTES_MAX = 1024
_HEADERS_KEPT_MAX = 64
_NUMBER = re.compile(r"[0-9]{1,19}")


class ConsumedRecord(Protocol):
    """The part of a consumed record that is kept; `timestamp` is milliseconds since the epoch."""

    @property
    def topic(self) -> str:
        """The topic it was read from."""

    @property
    def partition(self) -> int:
        """The partition it was read from."""

    @property
    def offset(self) -> int:
        """Its offset there."""

    @property
    def timestamp(self) -> int:
        """Its Kafka timestamp."""

    @property
    def key(self) -> Any:
        """Its raw key."""

    @property
    def value(self) -> Any:
        """Its raw value."""

    @property
    def headers(self) -> Any:
        """Its headers, a sequence of (name, bytes or None)."""


class Failure(NamedTuple):
    """What the headers of a failed record say; absent or malformed ones are empty, 0 or None."""

    original_topic: str
    original_partition: int
    original_offset: int
    original_timestamp_ms: int
    retry_role: str
    attempt: int
    due_at: datetime | None
    first_failed_at: datetime | None
    error_class: str
    error_message: str
    error_reason: str
    redrives: int


def read_failure(headers: Headers) -> Failure:
    """Read the failure headers leniently: it must work for records that are poison."""
    found = {name: value for name, value in headers if name in _OURS and value is not None}
    return Failure(
        _text(found, ORIGINAL_TOPIC),
        _number(found, ORIGINAL_PARTITION),
        _number(found, ORIGINAL_OFFSET),
        _number(found, ORIGINAL_TIMESTAMP),
        _text(found, RETRY_ROLE),
        min(_number(found, ATTEMPT), ATTEMPT_MAX),
        _instant(found, DUE_AT),
        _instant(found, FIRST_FAILED_AT),
        _text(found, ERROR_CLASS),
        _text(found, ERROR_MESSAGE),
        _text(found, ERROR_REASON),
        read_redrives(found.get(REDRIVES, b"")),
    )


def identity_of(headers: Headers) -> str | None:
    """Return what tells a dead letter from all others, and not from its copies: the headers that
    say where it came from, who gave it up, and at which try. None when its origin is not told.

    As they stand, unread: whatever they say, copies say the same.
    """
    found = {name: value or b"" for name, value in headers}
    if not all(found.get(name) for name in _ORIGIN):
        return None
    return "/".join(_text(found, name) for name in _IDENTITY)


def retry(
    record: ConsumedRecord,
    *,
    tier: str,
    role: str,
    error: BaseException,
    attempt: int,
    due_at: datetime,
    now: datetime,
) -> Output:
    """Build the record that waits on topic `tier` until `due_at`; `attempt` counts failures so far,
    from 1.
    """
    ours = _failed(record, role=role, error=error, attempt=attempt, now=now)
    ours[DUE_AT] = _stamp(due_at)
    return _output(record, tier, ours)


def dead_letter(
    record: ConsumedRecord,
    *,
    topic: str,
    role: str,
    error: BaseException,
    attempt: int,
    now: datetime,
) -> Output:
    """Build the dead-letter record on `topic`, for any record whatsoever; `attempt` counts failures
    so far.
    """
    return _output(record, topic, _failed(record, role=role, error=error, attempt=attempt, now=now))


def redeliver(record: ConsumedRecord) -> Output:
    """Build the record that goes from a retry tier back to its original topic, same key and
    partition.

    Raises Poison when the record does not say where it came from.
    """
    return _back(record, keep=_ON_DELIVERY)


def redrive(record: ConsumedRecord, *, not_after: datetime | None = None) -> Output:
    """Build the record by which an operator sends a dead letter back; attempts start anew, ids
    stay.

    A dead letter of a canary is left to the stable arm: the canary has had its tries, and may be
    gone. `not_after` restamps a command's own deadline when its body has one. Raises Poison when
    the record does not say where it came from. It is a span of its own in the letter's trace.
    """
    failure = read_failure(record.headers)
    output = (
        pass_on(record, STABLE_OF[failure.original_topic])
        if failure.original_topic in STABLE_OF
        else _back(record, keep=tuple(name for name in _ON_DELIVERY if name != ATTEMPT))
    )
    redrives = failure.redrives + 1
    headers = [pair for pair in output.headers if pair[0] != REDRIVES]
    headers.append((REDRIVES, str(redrives).encode()))
    name = f"{record.topic}/{record.partition}/{record.offset}"
    headers = _with_span(headers, trace_context.span_of(name, f"redrive\0{redrives}"))
    value = output.value if not_after is None else _restamp(output.value, not_after)
    return Output(output.topic, output.key, value, headers, output.partition)


def pass_on(record: ConsumedRecord, topic: str) -> Output:
    """Build the record by which a consumer leaves a command to the one that reads `topic`.

    Key, partition, id and body stay; failures stay behind, re-drives do not.
    """
    redrives = {n: v for n, v in record.headers if n == REDRIVES and v is not None}
    return _output(record, topic, redrives)


def redriven(output: Output, redrives: int) -> Output:
    """Mark a command that its sender sends for the `redrives`-th time again under the same id.

    A consumer that had retried or dead-lettered it tries again; without the mark it would take the
    record for a copy of the first one and only repeat what it has stored. It is a span of its own.
    """
    name = dict(output.headers).get("ce_id", b"").decode()
    headers = _with_span(output.headers, trace_context.span_of(name, f"again\0{redrives}"))
    return msgspec.structs.replace(output, headers=[*headers, (REDRIVES, str(redrives).encode())])


def traceparent_of(headers: Headers) -> str:
    """Return the trace context of a record as it is read: empty when malformed or not alone."""
    found = [value for name, value in headers if name == TRACEPARENT]
    return trace_context.read(found[0]) if len(found) == 1 else ""


def _with_span(headers: Sequence[tuple[str, bytes]], span_id: str) -> list[tuple[str, bytes]]:
    """Put another span into the trace context; one that cannot be read stays as it is."""
    known = traceparent_of(headers)
    if not known:
        return list(headers)
    mine = trace_context.child(known, span_id).encode()
    return [(name, mine if name == TRACEPARENT else value) for name, value in headers]


def _back(record: ConsumedRecord, *, keep: Sequence[str]) -> Output:
    failure = read_failure(record.headers)
    if not failure.original_topic:
        raise Poison("bad_header", ORIGINAL_TOPIC)
    found = {name: value for name, value in record.headers if value is not None}
    return _output(
        record, failure.original_topic, {name: found[name] for name in keep if name in found}
    )


def _failed(
    record: ConsumedRecord, *, role: str, error: BaseException, attempt: int, now: datetime
) -> dict[str, bytes]:
    failure = read_failure(record.headers)
    code = error.code if isinstance(error, SymphonyError) else type(error).__name__
    ours = {
        ORIGINAL_TOPIC: (failure.original_topic or record.topic).encode(),
        ORIGINAL_PARTITION: str(
            failure.original_partition if failure.original_topic else record.partition
        ).encode(),
        ORIGINAL_OFFSET: str(
            failure.original_offset if failure.original_topic else record.offset
        ).encode(),
        ORIGINAL_TIMESTAMP: str(
            failure.original_timestamp_ms if failure.original_topic else record.timestamp
        ).encode(),
        RETRY_ROLE: role.encode(),
        ATTEMPT: str(min(attempt, ATTEMPT_MAX)).encode(),
        FIRST_FAILED_AT: _stamp(failure.first_failed_at or now),
        ERROR_CLASS: code.encode(),
        ERROR_MESSAGE: _message(error),
    }
    if isinstance(error, Poison):
        ours[ERROR_REASON] = error.reason.encode()
    if failure.redrives:
        ours[REDRIVES] = str(failure.redrives).encode()
    return ours


def _output(record: ConsumedRecord, topic: str, ours: Mapping[str, bytes]) -> Output:
    foreign = [(name, value or b"") for name, value in record.headers if name not in _OURS]
    return Output(
        topic,
        record.key,
        record.value,
        [*foreign[:_HEADERS_KEPT_MAX], *ours.items()],
        record.partition,
    )


def _restamp(value: bytes | None, not_after: datetime) -> bytes | None:
    if value is None:
        return None
    try:
        body = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value
    if not isinstance(body, dict) or "not_after" not in body:
        return value
    return msgspec.json.encode({**body, "not_after": not_after})


def _message(error: BaseException) -> bytes:
    printable = "".join(char if char.isprintable() else " " for char in str(error)[:2048])
    return (
        printable.encode("utf-8", "replace")[:_MESSAGE_BYTES_MAX].decode("utf-8", "ignore").encode()
    )


def _stamp(at: datetime) -> bytes:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _text(found: Mapping[str, bytes], name: str) -> str:
    return found.get(name, b"").decode("utf-8", "replace")


def _number(found: Mapping[str, bytes], name: str) -> int:
    text = _text(found, name)
    return int(text) if _NUMBER.fullmatch(text) else 0


def _instant(found: Mapping[str, bytes], name: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(_text(found, name))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
