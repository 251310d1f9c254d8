"""Step 1: raw records to events; what cannot be read becomes a dead letter, never a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from aiokafka.structs import ConsumerRecord

from app.delivery.effects import Finished
from app.delivery.events import Event
from app.delivery.record_batch import MisnamedRecord
from app.errors import Poison, SymphonyError
from app.ids import uuid5
from app.messages import deadletter, decode
from app.messages.envelope import ATTEMPT_MAX, Decoded
from app.observability import metrics
from app.observability.logging import get_log
from app.observability.messaging import log_fields
from app.topics import dlt_of

log = get_log(__name__)

_POSITIONS = "0b8ac5a3-0f1c-5b0a-9a55-6c8f2f3f7d11"
"""Namespace of the ids of records that are known by nothing but where they stand."""


def decode_records(
    records: Iterable[ConsumerRecord], *, role: str, now: datetime
) -> tuple[list[Event], list[Finished]]:
    """Decode in order; undecodable records come back as finished with their dead letter.

    A record that carries another role's `x-retry-role` is that role's retry and is left out.
    """
    events: list[Event] = []
    dead: list[Finished] = []
    for record in records:
        try:
            if isinstance(record, MisnamedRecord):
                raise Poison("bad_header", "a header name is not UTF-8")
            decoded = decode(record.topic, record.headers, record.key, record.value)
        except Poison as error:
            dead.append(bury(record, error, role=role, now=now))
            continue
        if decoded.retry_role and decoded.retry_role != role:
            continue
        events.append(to_event(record, decoded))
    return events, dead


def raw_events(
    records: Iterable[ConsumerRecord], known_by: Callable[[ConsumerRecord], str] | None = None
) -> list[Event]:
    """Make events of records without reading them, for consumers that move records about.

    `event_id` is what `known_by` says, by default where the record stands; `body` is None.
    """
    known_by = known_by or position_id
    return [
        Event(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key,
            event_id=known_by(record),
            type="",
            body=None,
            attempt=0,
            delivery=0,
            correlation_id="",
            causation_id="",
            traceparent=deadletter.traceparent_of(record.headers),
            record=record,
        )
        for record in records
    ]


def position_id(record: ConsumerRecord) -> str:
    """Return the id of a record as such: the same whenever it is read again."""
    return uuid5(_POSITIONS, f"{record.topic}/{record.partition}/{record.offset}")


def letter_id(record: ConsumerRecord) -> str:
    """Return the id of a dead letter: the same for every copy that a repeated step has published.

    It is made of the record that the letter speaks of, of who gave that up, and at which try. A
    record that does not say so is known by where it stands.
    """
    if isinstance(record, MisnamedRecord):
        return position_id(record)
    told = deadletter.identity_of(record.headers)
    return position_id(record) if told is None else uuid5(_POSITIONS, f"{record.topic}/{told}")


def to_event(record: ConsumerRecord, decoded: Decoded) -> Event:
    """Join a record and its decoded envelope."""
    attempt = decoded.attempt
    delivery = decoded.redrives * (ATTEMPT_MAX + 1) + attempt
    return Event(
        record.topic,
        record.partition,
        record.offset,
        record.key,
        decoded.event_id,
        decoded.type,
        decoded.body,
        attempt,
        delivery,
        decoded.correlation_id,
        decoded.causation_id,
        decoded.traceparent,
        record,
        decoded.tracestate,
    )


def bury(record: ConsumerRecord, error: SymphonyError, *, role: str, now: datetime) -> Finished:
    """Make the dead letter of a record that no handler will see."""
    metrics.DEAD_LETTERED.child(role, error.code).inc()
    log.warning(
        "event.dead_lettered",
        **log_fields(record.topic, record.key, record.headers),
        partition=record.partition,
        offset=record.offset,
        consumer=role,
        code=error.code,
        reason=error.detail,
    )
    letter = deadletter.dead_letter(
        record, topic=dlt_of(record.topic), role=role, error=error, attempt=1, now=now
    )
    return Finished(record.partition, record.key, position_id(record), (letter,), done=False)
