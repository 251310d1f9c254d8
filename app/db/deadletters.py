"""The index of dead letters: what stands on the `.dlt` topics, searchable while it is kept.

Guarantees: indexing a record again changes nothing; key and value are the raw bytes. The topic is
the truth, this is a copy of it.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from app import ids
from app.db.statements import statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Database, Transaction

_NAMESPACE = "5f2d7a0e-6f0b-5c53-9b6f-1f1a2f6f4f10"


class DeadLetter(NamedTuple):
    """One dead letter. `topic`, `partition`, `offset` say where it stands; `origin_*` where the
    record was first read. `headers` in order, values decoded with replacement for display.
    """

    topic: str
    partition: int
    offset: int
    origin_topic: str
    origin_partition: int
    origin_offset: int
    consumer: str
    event_id: str
    error_class: str
    error_message: str
    headers: Sequence[tuple[str, str]]
    key: bytes | None
    value: bytes | None
    first_failed_at: datetime
    at: datetime

    @property
    def id(self) -> str:
        """The letter's id, derived from where it stands."""
        return ids.uuid5(_NAMESPACE, f"{self.topic}:{self.partition}:{self.offset}")

    @property
    def fingerprint(self) -> str:
        """The same for letters of one cause: consumer, origin topic, error class and message."""
        parts = (self.consumer, self.origin_topic, self.error_class, self.error_message)
        return sha256("\0".join(parts).encode()).hexdigest()[:16]


class Place(NamedTuple):
    """A place in the list, newest first: continue after this letter."""

    at: datetime
    id: str


_RECORD = statement(
    """
    insert into ops.dead_letter
           (id, topic, partition, "offset", origin_topic, origin_partition, origin_offset,
            consumer, event_id, error_class, error_message, fingerprint, headers, key, value,
            first_failed_at, at)
    select id, topic, part, "offset", origin_topic, origin_part, origin_offset, consumer, event_id,
           error_class, error_message, fingerprint, headers::jsonb, key, value, first_failed_at, at
      from unnest(:ids::uuid[], :topics::text[], :partitions::int[], :offsets::bigint[],
                  :origin_topics::text[], :origin_partitions::int[], :origin_offsets::bigint[],
                  :consumers::text[], :event_ids::text[], :error_classes::text[],
                  :error_messages::text[], :fingerprints::text[], :headers::text[],
                  :keys::bytea[], :values::bytea[], :first_failed::timestamptz[],
                  :times::timestamptz[])
        as new(id, topic, part, "offset", origin_topic, origin_part, origin_offset, consumer,
               event_id, error_class, error_message, fingerprint, headers, key, value,
               first_failed_at, at)
    on conflict do nothing
    """
)
_COLUMNS = (
    'topic, partition, "offset", origin_topic, origin_partition, origin_offset, consumer, event_id,'
    " error_class, error_message, headers, key, value, first_failed_at, at"
)
_GET = statement(f"select {_COLUMNS} from ops.dead_letter where id = :id")
_RECENT = statement(
    f"select {_COLUMNS} from ops.dead_letter"
    " where (at, id) < (coalesce(:at::timestamptz, 'infinity'),"
    " coalesce(:id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))"
    " order by at desc, id desc limit :limit"
)
_PURGE = statement(
    "delete from ops.dead_letter where id in"
    " (select id from ops.dead_letter where at < :before order by at limit :limit)"
)


async def record(tx: Transaction, letters: Sequence[DeadLetter]) -> int:
    """Index dead letters; return how many were new."""
    return await tx.execute(
        _RECORD,
        ids=[one.id for one in letters],
        topics=[one.topic for one in letters],
        partitions=[one.partition for one in letters],
        offsets=[one.offset for one in letters],
        origin_topics=[_clean(one.origin_topic) for one in letters],
        origin_partitions=[one.origin_partition for one in letters],
        origin_offsets=[one.origin_offset for one in letters],
        consumers=[_clean(one.consumer) for one in letters],
        event_ids=[_clean(one.event_id) for one in letters],
        error_classes=[_clean(one.error_class) for one in letters],
        error_messages=[_clean(one.error_message) for one in letters],
        fingerprints=[one.fingerprint for one in letters],
        headers=[_headers(one) for one in letters],
        keys=[one.key for one in letters],
        values=[one.value for one in letters],
        first_failed=[one.first_failed_at for one in letters],
        times=[one.at for one in letters],
    )


async def get(db: Database, letter_id: str) -> DeadLetter | None:
    """Return one dead letter or None."""
    rows = await db.fetch(_GET, id=letter_id)
    return _letter(*rows[0]) if rows else None


async def recent(db: Database, limit: int, after: Place | None = None) -> list[DeadLetter]:
    """Return at most `limit` dead letters, newest first, those older than `after`."""
    at, letter_id = after if after is not None else (None, None)
    rows = await db.fetch(_RECENT, at=at, id=letter_id, limit=limit)
    return [_letter(*row) for row in rows]


async def purge(tx: Transaction, before: datetime, limit: int) -> int:
    """Forget at most `limit` letters indexed before `before`; return how many."""
    return await tx.execute(_PURGE, before=before, limit=limit)


def _headers(letter: DeadLetter) -> str:
    return json.dumps([[_clean(name), _clean(value)] for name, value in letter.headers])


def _clean(text: str) -> str:
    """PostgreSQL's text and jsonb refuse U+0000; a poison record may well contain it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _letter(*row: object) -> DeadLetter:
    letter = DeadLetter._make(row)
    return letter._replace(headers=[(name, value) for name, value in letter.headers])
