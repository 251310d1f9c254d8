"""The index of dead letters: what stands on the `.dlt` topics, searchable while it is kept.

Guarantees: indexing a record again changes nothing; key, value and headers are the raw bytes, so a
letter can be sent back without Kafka. Lists are bounded by their caller's `limit` and paged by key.
What jobs do with letters stands in `dead_letter_claims`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from app import ids
from app.db.statements import statement
from app.db.texts import storable
from app.domain.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.cursor import Cursor
    from app.db.engine import Database, Transaction

_NAMESPACE = "5f2d7a0e-6f0b-5c53-9b6f-1f1a2f6f4f10"

STATUSES: Final = ("OPEN", "CLAIMED", "REDRIVEN", "DISCARDED", "PURGED")

RawHeaders = list[tuple[str, bytes | None]]
_pack_headers = msgspec.msgpack.Encoder().encode
_unpack_headers = msgspec.msgpack.Decoder(RawHeaders).decode


class DeadLetter(NamedTuple):
    """One dead letter. `topic`, `partition`, `offset` say where it stands; `origin_*` where the
    record was first read. `headers` in order, values decoded with replacement for display;
    `raw_headers` are the same to the byte, packed. What follows `at` is what became of it.
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
    raw_headers: bytes = b""
    status: str = "OPEN"
    job_id: str | None = None
    settled_by: str = ""
    settle_reason: str = ""
    settled_at: datetime | None = None

    @property
    def id(self) -> str:
        """The letter's id, derived from where it stands."""
        return letter_id(self.topic, self.partition, self.offset)

    @property
    def fingerprint(self) -> str:
        """The same for letters of one cause: consumer, origin topic, error class and message."""
        return fingerprint(self.consumer, self.origin_topic, self.error_class, self.error_message)

    @property
    def order_id(self) -> str | None:
        """The order that it is about, None when its key is no order's."""
        text = (self.key or b"").decode("latin-1")
        return text if ids.is_uuid(text) else None

    def exact_headers(self) -> RawHeaders:
        """The headers to the byte; those of a letter indexed by an older version are restored from
        what is displayed."""
        if self.raw_headers:
            return _unpack_headers(self.raw_headers)
        return [(name, value.encode()) for name, value in self.headers]


def letter_id(topic: str, partition: int, offset: int) -> str:
    """Return the id of the letter that stands there."""
    return ids.uuid5(_NAMESPACE, f"{topic}:{partition}:{offset}")


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Return the bytes under which exact headers are stored."""
    return _pack_headers(list(headers))


class Count(NamedTuple):
    """How many letters of `topic` have `status`."""

    topic: str
    status: str
    letters: int
    first_at: datetime
    last_at: datetime


class Group(NamedTuple):
    """Letters of one cause on one topic; the message is the newest one's, `sample` its id."""

    topic: str
    fingerprint: str
    letters: int
    open: int
    first_at: datetime
    last_at: datetime
    consumer: str
    origin_topic: str
    error_class: str
    error_message: str
    sample: str


_RECORD = statement(
    """
    insert into ops.dead_letter
           (id, topic, partition, "offset", origin_topic, origin_partition, origin_offset,
            consumer, event_id, error_class, error_message, fingerprint, headers, raw_headers, key,
            value, first_failed_at, at)
    select id, topic, part, "offset", origin_topic, origin_part, origin_offset, consumer, event_id,
           error_class, error_message, fingerprint, headers::jsonb, raw_headers, key, value,
           first_failed_at, at
      from unnest(:ids::uuid[], :topics::text[], :partitions::int[], :offsets::bigint[],
                  :origin_topics::text[], :origin_partitions::int[], :origin_offsets::bigint[],
                  :consumers::text[], :event_ids::text[], :error_classes::text[],
                  :error_messages::text[], :fingerprints::text[], :headers::text[],
                  :raw_headers::bytea[], :keys::bytea[], :values::bytea[],
                  :first_failed::timestamptz[], :times::timestamptz[])
        as new(id, topic, part, "offset", origin_topic, origin_part, origin_offset, consumer,
               event_id, error_class, error_message, fingerprint, headers, raw_headers, key, value,
               first_failed_at, at)
    on conflict do nothing
    """
)
COLUMNS: Final = (
    'topic, partition, "offset", origin_topic, origin_partition, origin_offset, consumer, event_id,'
    " error_class, error_message, headers, key, value, first_failed_at, at, raw_headers, status,"
    " job_id, settled_by, settle_reason, settled_at"
)
"""The columns of ops.dead_letter that `from_row` takes, in that order."""
_GET = statement(f"select {COLUMNS} from ops.dead_letter where id = :id")
_OLDER = (
    "(at, id) < (coalesce(:at::timestamptz, 'infinity'),"
    " coalesce(:id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))"
)
_PEEK = statement(
    f"select {COLUMNS} from ops.dead_letter where {_OLDER} and topic = :topic"
    " and (:status = '' or status = :status)"
    " and (:fingerprint = '' or fingerprint = :fingerprint)"
    " order by at desc, id desc limit :limit"
)
_COUNTS = statement(
    "select topic, status, count(*), min(at), max(at) from ops.dead_letter"
    " where :topic = '' or topic = :topic group by topic, status order by topic, status"
)
_GROUPS = statement(
    """
    select g.topic, g.fingerprint, g.letters, g.open, g.first_at, g.last_at, s.consumer,
           s.origin_topic, s.error_class, s.error_message, s.id
      from (select topic, fingerprint, count(*) as letters,
                   count(*) filter (where status = 'OPEN') as open,
                   min(at) as first_at, max(at) as last_at
              from ops.dead_letter where :topic = '' or topic = :topic
             group by topic, fingerprint
             order by open desc, last_at desc, fingerprint limit :limit) g
     cross join lateral (
           select consumer, origin_topic, error_class, error_message, id from ops.dead_letter d
            where d.fingerprint = g.fingerprint and d.topic = g.topic
            order by d.at desc limit 1) s
     order by g.open desc, g.last_at desc, g.fingerprint
    """
)
_FORGET = statement(
    """
    delete from ops.dead_letter where id = any(array(
        select id from ops.dead_letter
         where at < :before and settled_at < :before
           and status in ('REDRIVEN', 'DISCARDED', 'PURGED')
         order by at limit :limit for update skip locked))
    """
)


async def record(tx: Transaction, letters: Sequence[DeadLetter]) -> int:
    """Index dead letters; return how many were new."""
    return await tx.execute(
        _RECORD,
        ids=[one.id for one in letters],
        topics=[one.topic for one in letters],
        partitions=[one.partition for one in letters],
        offsets=[one.offset for one in letters],
        origin_topics=[storable(one.origin_topic) for one in letters],
        origin_partitions=[one.origin_partition for one in letters],
        origin_offsets=[one.origin_offset for one in letters],
        consumers=[storable(one.consumer) for one in letters],
        event_ids=[storable(one.event_id) for one in letters],
        error_classes=[storable(one.error_class) for one in letters],
        error_messages=[storable(one.error_message) for one in letters],
        fingerprints=[one.fingerprint for one in letters],
        headers=[_headers(one) for one in letters],
        raw_headers=[one.raw_headers for one in letters],
        keys=[one.key for one in letters],
        values=[one.value for one in letters],
        first_failed=[one.first_failed_at for one in letters],
        times=[one.at for one in letters],
    )


async def get(db: Database, letter_id: str) -> DeadLetter | None:
    """Return one dead letter or None."""
    rows = await db.fetch(_GET, id=letter_id)
    return from_row(rows[0]) if rows else None


async def peek(
    db: Database,
    topic: str,
    limit: int,
    *,
    status: str = "",
    fingerprint: str = "",
    after: Cursor | None = None,
) -> list[DeadLetter]:
    """Return at most `limit` letters of `topic`, newest first; of one status, of one group."""
    at, letter_id = after if after is not None else (None, None)
    rows = await db.fetch(
        _PEEK, topic=topic, limit=limit, status=status, fingerprint=fingerprint, at=at, id=letter_id
    )
    return [from_row(row) for row in rows]


async def counts(db: Database, topic: str = "") -> list[Count]:
    """Return how many letters stand there, by topic and status."""
    return [Count(*row) for row in await db.fetch(_COUNTS, topic=topic)]


async def groups(db: Database, limit: int, topic: str = "") -> list[Group]:
    """Return at most `limit` groups, those with the most open letters first."""
    return [Group(*row) for row in await db.fetch(_GROUPS, topic=topic, limit=limit)]


async def forget(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete at most `limit` letters that were settled before `before`; return how many.

    An open letter is kept, however old it is.
    """
    return await tx.execute(_FORGET, before=before, limit=limit)


def from_row(row: Sequence[Any]) -> DeadLetter:
    """Return the letter of a row of COLUMNS."""
    letter = DeadLetter._make(row)
    return letter._replace(headers=[(name, value) for name, value in letter.headers])


def _headers(letter: DeadLetter) -> str:
    return json.dumps([[storable(name), storable(value)] for name, value in letter.headers])
