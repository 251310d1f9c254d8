"""The record that a dead letter becomes when it is sent back, and what it reads as: no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from app import ids, trace_context
from app.delivery.decoding import position_id
from app.domain import redrive as rule
from app.errors import Poison
from app.messages import Decoded, Output, deadletter, decode
from app.messages.envelope import Headers
from app.topics import MESSAGE_TOPICS

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.deadletters import DeadLetter


class Stored(NamedTuple):
    """A dead letter as the record it was."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Readable(NamedTuple):
    """A letter with what would be sent (None: nothing can be) and what that reads as.

    `unreadable` says why there is no message in it.
    """

    letter: DeadLetter
    output: Output | None
    message: Decoded | None
    unreadable: str


def stored(letter: DeadLetter) -> Stored:
    """Return the record that the letter is a copy of."""
    return Stored(
        letter.topic,
        letter.partition,
        letter.offset,
        0,
        letter.key,
        letter.value,
        letter.exact_headers(),
    )


def read(letter: DeadLetter) -> Readable:
    """Make the record that goes back and read it as its consumer will. Raises nothing."""
    try:
        output = deadletter.redrive(stored(letter))
    except Poison as error:
        return Readable(letter, None, None, str(error))
    try:
        message = decode(output.topic, output.headers, output.key, output.value)
    except Poison as error:
        return Readable(letter, output, None, error.reason)
    return Readable(letter, output, message, "")


def facts(readable: Readable, *, done: bool) -> rule.Facts:
    """Return what the rule asks about a letter."""
    letter, message = readable.letter, readable.message
    topic = readable.output.topic if readable.output is not None else letter.origin_topic
    return rule.Facts(
        topic,
        letter.consumer,
        message.event_id if message is not None else letter.event_id,
        message.body if message is not None else None,
        readable.unreadable,
        done,
    )


def sent_back(letter: DeadLetter, not_after: datetime | None) -> Output:
    """Return the record that sends `letter` back; the same whenever it is made, but for the
    deadline of a command. Raises Poison when it does not say where it came from."""
    return deadletter.redrive(stored(letter), not_after=not_after)


def edited(
    letter: DeadLetter, value: bytes, *, event_id: str, correlation_id: str, source: str, at: bytes
) -> Output:
    """Return the message that replaces `letter`: same topic and consumer, another content.

    Its cause is the letter: the record on the dead-letter topic. Its key is what the content names;
    with another key it goes to that key's partition. It is marked as redriven, so that a command,
    which keeps its id, counts as a later delivery.
    """
    record = stored(letter)
    failure = deadletter.read_failure(record.headers)
    given: dict[str, Any] = dict(record.headers)
    topic = failure.original_topic or letter.origin_topic
    trace = trace_context.continued(
        deadletter.traceparent_of(record.headers),
        correlation_id,
        trace_context.span_of(letter.id, f"edit\0{event_id}"),
    )
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", _type_of(topic, given.get("ce_type"))),
        ("ce_time", at),
        ("ce_correlationid", correlation_id.encode()),
        ("ce_causationid", position_id(record).encode()),
        ("content-type", b"application/json"),
        (deadletter.TRACEPARENT, trace.encode()),
        (deadletter.REDRIVES, str(failure.redrives + 1).encode()),
    ]
    if letter.consumer:
        headers.append((deadletter.RETRY_ROLE, letter.consumer.encode()))
    key = _key_of(topic, value)
    if key is None or key == letter.key:
        return Output(topic, letter.key, value, headers, letter.partition)
    return Output(topic, key, value, headers)


def _type_of(topic: str, given: bytes | None) -> bytes:
    """The letter's own type where it is one of the topic's, else the topic's."""
    spec = MESSAGE_TOPICS.get(topic)
    names = [body.ce_type().encode() for body in spec.bodies] if spec is not None else []
    if given is not None and (given in names or not names):
        return given
    return names[0] if names else b""


def _key_of(topic: str, value: bytes) -> bytes | None:
    """The key that the content names, None when it names none."""
    spec = MESSAGE_TOPICS.get(topic)
    try:
        body = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    named = body.get(spec.key) if spec is not None and isinstance(body, dict) else None
    return named.encode() if isinstance(named, str) and named else None


def correlation_of(letter: DeadLetter) -> str:
    """Return the correlation id that a letter names, or what stands for it."""
    raw = dict(letter.exact_headers()).get("ce_correlationid") or b""
    text = raw.decode("utf-8", "replace")
    if 0 < len(text) <= 256 and text.isprintable():
        return text
    return letter.order_id or (letter.event_id if ids.is_uuid(letter.event_id) else letter.id)
