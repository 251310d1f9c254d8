"""Role dlq: brings due retries back to their topics and indexes dead letters.

A retry tier is a topic with one delay: its records are held until they are due and then go to the
topic they came from, same key, partition, id and body, so the role that failed tries again. Dead
letters stay where they are; PostgreSQL gets a searchable copy, from which jobs send them back
(`app.redrive`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from app.db.deadletters import DeadLetter, pack_headers, record
from app.delivery import Applied, Event, consume
from app.failpoints import failpoint
from app.messages import deadletter
from app.redrive.service import RedriveService
from app.topics import DEAD_LETTER_TOPICS, RETRY_TIERS

if TYPE_CHECKING:
    from app.clock import Clock
    from app.db.engine import Transaction
    from app.delivery import App

_PARTITION_MAX = 2**31 - 1
_OFFSET_MAX = 2**63 - 1
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


class Redelivery:
    """Holds each record of one retry tier until it is due, then sends it back to its topic."""

    def __init__(self, clock: Clock, delay_s: int) -> None:
        self._clock = clock
        self._delay = timedelta(seconds=delay_s)

    def due_at(self, event: Event) -> datetime | None:
        """When the record wants to be tried again, at most the tier's delay from now."""
        due_at = deadletter.read_failure(event.record.headers).due_at
        return None if due_at is None else min(due_at, self._clock.now() + self._delay)

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Send every record back. Raises Poison for one that does not say where it came from."""
        await failpoint("dlq.before_redelivery", events)
        return [Applied((deadletter.redeliver(event.record),)) for event in events]


class DeadLetterIndex:
    """Copies dead letters, whatever is in them, into PostgreSQL; publishes nothing."""

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Index every record; one that is indexed already stays as it is."""
        await failpoint("dlq.before_index", events)
        await record(tx, [letter(event, now) for event in events])
        return [Applied()] * len(events)


def letter(event: Event, now: datetime) -> DeadLetter:
    """Return the index entry of any record of a dead-letter topic; raises nothing."""
    found = event.record
    failure = deadletter.read_failure(found.headers)
    headers = [(name, (value or b"").decode("utf-8", "replace")) for name, value in found.headers]
    first_failed_at = failure.first_failed_at
    if first_failed_at is None or not _EARLIEST <= first_failed_at <= now:
        first_failed_at = now
    return DeadLetter(
        topic=found.topic,
        partition=found.partition,
        offset=found.offset,
        origin_topic=failure.original_topic,
        origin_partition=min(failure.original_partition, _PARTITION_MAX),
        origin_offset=min(failure.original_offset, _OFFSET_MAX),
        consumer=failure.retry_role,
        event_id=dict(headers).get("ce_id", ""),
        error_class=failure.error_class,
        error_message=failure.error_message,
        headers=headers,
        key=found.key,
        value=found.value,
        first_failed_at=first_failed_at,
        at=now,
        raw_headers=pack_headers(found.headers),
    )


def register(app: App) -> None:
    """Declare one agent per retry tier, so that a long delay never holds up a short one, one over
    all dead-letter topics, and the worker on jobs.

    Tiers that the setting leaves out are read too: records may wait there since before it changed.
    """
    for delay_s, tier in RETRY_TIERS.items():
        handler = Redelivery(app.clock, delay_s)
        consume(app, name=f"dlq-{tier.name}", topics=(tier,), handler=handler, raw=True)
    topics = tuple(DEAD_LETTER_TOPICS.values())
    consume(app, name="dlq-index", topics=topics, handler=DeadLetterIndex(), raw=True)
    app.service(RedriveService(app))
