"""The index of dead letters: what stands on the `.dlt` topics, searchable while it is kept.

Guarantees: indexing a record again changes nothing; key, value and headers are the raw bytes, so a
letter can be sent back without Kafka. A letter leaves OPEN by one guarded update, so one job takes
it, and lists are bounded by their caller's `limit` and paged by key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from app import ids
from app.db.statements import statement
from app.domain.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

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


class Place(NamedTuple):
    """A place in the list, newest first: continue after this letter."""

    at: datetime
    id: str


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


class Position(NamedTuple):
    """A place in the order in which jobs walk; the letter there is done with."""

    topic: str = ""
    partition: int = -1
    offset: int = -1


@dataclass(frozen=True)
class Selection:
    """Which letters are meant: all that fit everything that is given.

    Offsets are those of the dead-letter topic, both inclusive, over all partitions when
    `partition` is None.
    """

    ids: tuple[str, ...] | None = None
    topic: str = ""
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    fingerprint: str = ""

    def params(self) -> dict[str, Any]:
        """The parameters of `_SELECTED`."""
        return {
            "by_id": self.ids is not None,
            "ids": list(self.ids or ()),
            "topic": self.topic,
            "partition": -1 if self.partition is None else self.partition,
            "from_offset": 0 if self.from_offset is None else self.from_offset,
            "to_offset": -1 if self.to_offset is None else self.to_offset,
            "fingerprint": self.fingerprint,
        }


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
_COLUMNS = (
    'topic, partition, "offset", origin_topic, origin_partition, origin_offset, consumer, event_id,'
    " error_class, error_message, headers, key, value, first_failed_at, at, raw_headers, status,"
    " job_id, settled_by, settle_reason, settled_at"
)
_D_COLUMNS = ", ".join(f"d.{name.strip()}" for name in _COLUMNS.split(","))
# Parameters become literals, so what is not asked for is folded away and needs no look at the row.
_SELECTED = """
        (:topic = '' or topic = :topic)
    and (not :by_id or id = any(:ids::uuid[]))
    and (:fingerprint = '' or fingerprint = :fingerprint)
    and (:partition < 0 or partition = :partition)
    and (:from_offset = 0 or "offset" >= :from_offset)
    and (:to_offset < 0 or "offset" <= :to_offset)
"""
_GET = statement(f"select {_COLUMNS} from ops.dead_letter where id = :id")
_OLDER = (
    "(at, id) < (coalesce(:at::timestamptz, 'infinity'),"
    " coalesce(:id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))"
)
_PEEK = statement(
    f"select {_COLUMNS} from ops.dead_letter where {_OLDER} and topic = :topic"
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
_MATCHING = statement(
    f"select status, count(*) from ops.dead_letter where {_SELECTED} group by status"
)
_OF_IDS = statement("select id, topic, status from ops.dead_letter where id = any(:ids::uuid[])")
_SPAN = statement(
    'select partition, min("offset"), max("offset") from ops.dead_letter where topic = :topic'
    " group by partition order by partition"
)
_OPEN = statement(
    f"""
    select {_COLUMNS} from ops.dead_letter
     where {_SELECTED} and status = 'OPEN'
     order by topic, partition, "offset" limit :limit
    """
)
# Two claimers meet in the same order, so they wait for each other and never deadlock; who waited
# sees that the letter is not OPEN any more.
_CLAIM = statement(
    f"""
    with picked as (
        select id from ops.dead_letter
         where {_SELECTED} and status = 'OPEN' and at <= :until
           and (topic, partition, "offset")
               > (:after_topic::text, :after_partition::int, :after_offset::bigint)
         order by topic, partition, "offset" limit :limit
           for update)
    update ops.dead_letter d set status = 'CLAIMED', job_id = :job_id
      from picked where d.id = picked.id
    returning {_D_COLUMNS}
    """
)
_CLAIMED = statement(
    f"select {_COLUMNS} from ops.dead_letter where job_id = :job_id and status = 'CLAIMED'"
    ' order by topic, partition, "offset"'
)
_SETTLE = statement(
    """
    update ops.dead_letter d
       set status = settled.status, settled_by = :actor, settle_reason = settled.reason,
           settled_at = :now, job_id = case settled.status when 'OPEN' then null else d.job_id end
      from unnest(:ids::uuid[], :statuses::text[], :reasons::text[])
        as settled(id, status, reason)
     where d.id = settled.id and d.status = 'CLAIMED' and d.job_id = :job_id
    """
)
_RELEASE = statement(
    "update ops.dead_letter set status = 'OPEN', job_id = null"
    " where job_id = :job_id and status = 'CLAIMED'"
)
_SAGAS = statement(
    "select order_id, body from orders.saga where order_id = any(:order_ids::uuid[])"
)
_DONE = statement(
    """
    select i.consumer, i.event_id from ops.inbox i
      join unnest(:consumers::text[], :event_ids::uuid[]) as asked(consumer, event_id)
        on i.consumer = asked.consumer and i.event_id = asked.event_id
     where i.status = 0
    """
)
_PROTECTED = statement(
    """
    select count(*) from ops.dead_letter d
      join orders.saga s on s.order_id = case
           when encode(d.key, 'escape') ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
           then encode(d.key, 'escape')::uuid end
     where d.topic = :topic and d.status = 'OPEN' and not s.terminal
       and d."offset" < (:ends::jsonb ->> d.partition::text)::bigint
    """
)
# What is being sent back keeps its bytes: its job has to repeat it when it dies.
_EMPTY = statement(
    """
    with picked as (
        select id from ops.dead_letter
         where topic = :topic and partition = :partition and "offset" < :before
           and "offset" > :after and status <> 'CLAIMED'
         order by "offset" limit :limit for update)
    update ops.dead_letter d
       set job_id = case when d.status = 'OPEN' then :job_id::uuid else d.job_id end,
           settled_by = case when d.status = 'OPEN' then :actor else d.settled_by end,
           settle_reason = case when d.status = 'OPEN' then :reason else d.settle_reason end,
           settled_at = case when d.status = 'OPEN' then :now else d.settled_at end,
           status = case when d.status = 'OPEN' then 'PURGED' else d.status end,
           headers = '[]', raw_headers = '', value = null,
           key = case when encode(d.key, 'escape') ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                      then d.key end
      from picked where d.id = picked.id
    returning d."offset", d.status = 'PURGED' and d.job_id = :job_id::uuid
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
        origin_topics=[_clean(one.origin_topic) for one in letters],
        origin_partitions=[one.origin_partition for one in letters],
        origin_offsets=[one.origin_offset for one in letters],
        consumers=[_clean(one.consumer) for one in letters],
        event_ids=[_clean(one.event_id) for one in letters],
        error_classes=[_clean(one.error_class) for one in letters],
        error_messages=[_clean(one.error_message) for one in letters],
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
    return _letter(*rows[0]) if rows else None


async def peek(
    db: Database,
    topic: str,
    limit: int,
    *,
    status: str = "",
    fingerprint: str = "",
    after: Place | None = None,
) -> list[DeadLetter]:
    """Return at most `limit` letters of `topic`, newest first; of one status, of one group."""
    at, letter_id = after if after is not None else (None, None)
    rows = await db.fetch(
        _PEEK, topic=topic, limit=limit, status=status, fingerprint=fingerprint, at=at, id=letter_id
    )
    return [_letter(*row) for row in rows]


async def counts(db: Database, topic: str = "") -> list[Count]:
    """Return how many letters stand there, by topic and status."""
    return [Count(*row) for row in await db.fetch(_COUNTS, topic=topic)]


async def groups(db: Database, limit: int, topic: str = "") -> list[Group]:
    """Return at most `limit` groups, those with the most open letters first."""
    return [Group(*row) for row in await db.fetch(_GROUPS, topic=topic, limit=limit)]


async def matching(tx: Transaction, selection: Selection) -> dict[str, int]:
    """Return how many letters a selection means, by status; empty when it means none."""
    return dict(await tx.fetch(_MATCHING, **selection.params()))


async def of_ids(tx: Transaction, letter_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return topic and status of the letters that exist, by id."""
    rows = await tx.fetch(_OF_IDS, ids=list(letter_ids))
    return {row[0]: (row[1], row[2]) for row in rows}


async def span(tx: Transaction, topic: str) -> dict[int, tuple[int, int]]:
    """Return the first and last indexed offset of each partition of a dead-letter topic."""
    return {row[0]: (row[1], row[2]) for row in await tx.fetch(_SPAN, topic=topic)}


async def open_letters(tx: Transaction, selection: Selection, limit: int) -> list[DeadLetter]:
    """Return the first `limit` open letters of a selection, in the order jobs walk."""
    rows = await tx.fetch(_OPEN, **selection.params(), limit=limit)
    return [_letter(*row) for row in rows]


async def claim(
    tx: Transaction,
    job_id: str,
    selection: Selection,
    after: Position,
    until: datetime,
    limit: int,
) -> list[DeadLetter]:
    """Take the next open letters of a selection for a job, those indexed not after `until`.

    A letter that another job takes at the same time is waited for and then left out.
    """
    rows = await tx.fetch(
        _CLAIM,
        **selection.params(),
        job_id=job_id,
        after_topic=after.topic,
        after_partition=after.partition,
        after_offset=after.offset,
        until=until,
        limit=limit,
    )
    letters = [_letter(*row) for row in rows]
    return sorted(letters, key=lambda one: (one.topic, one.partition, one.offset))


async def claimed(tx: Transaction, job_id: str) -> list[DeadLetter]:
    """Return what a job has taken and not settled: its worker died in between."""
    return [_letter(*row) for row in await tx.fetch(_CLAIMED, job_id=job_id)]


async def settle(
    tx: Transaction,
    job_id: str,
    outcomes: Sequence[tuple[str, str, str]],
    actor: str,
    now: datetime,
) -> int:
    """Settle claimed letters by (id, status, reason); OPEN gives one back. Return how many were
    still the job's."""
    return await tx.execute(
        _SETTLE,
        job_id=job_id,
        ids=[one[0] for one in outcomes],
        statuses=[one[1] for one in outcomes],
        reasons=[_clean(one[2])[:500] for one in outcomes],
        actor=_clean(actor),
        now=now,
    )


def release(tx: Transaction, job_id: str) -> None:
    """Queue: what the job has taken and not settled is open again.

    It may have been sent: sending it again sends the same record, which has one effect.
    """
    tx.later(_RELEASE, job_id=job_id)


async def sagas_of(tx: Transaction, order_ids: Sequence[str]) -> dict[str, bytes]:
    """Return the packed sagas of those orders that have one."""
    return dict(await tx.fetch(_SAGAS, order_ids=list(order_ids))) if order_ids else {}


async def done(tx: Transaction, events: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those (consumer, event id) that the consumer has finished."""
    if not events:
        return set()
    rows = await tx.fetch(
        _DONE, consumers=[one[0] for one in events], event_ids=[one[1] for one in events]
    )
    return {(row[0], row[1]) for row in rows}


async def protected(tx: Transaction, topic: str, ends: dict[int, int]) -> int:
    """Return how many open letters below `ends` belong to an order whose saga has not ended."""
    return int((await tx.fetch(_PROTECTED, topic=topic, ends=_ends(ends)))[0][0])


async def empty(
    tx: Transaction,
    job_id: str,
    place: Position,
    before: int,
    *,
    actor: str,
    reason: str,
    now: datetime,
    limit: int,
) -> tuple[int, int, int]:
    """Drop value and headers, and a key that is no id, of letters after `place` and below offset
    `before` of its partition; open ones become PURGED.

    Return how many were emptied, how many of them became PURGED, and the last offset.
    """
    rows = await tx.fetch(
        _EMPTY,
        topic=place.topic,
        partition=place.partition,
        after=place.offset,
        before=before,
        job_id=job_id,
        actor=_clean(actor),
        reason=_clean(reason),
        now=now,
        limit=limit,
    )
    last = max((row[0] for row in rows), default=place.offset)
    return len(rows), sum(row[1] for row in rows), last


async def forget(tx: Transaction, before: datetime, limit: int) -> int:
    """Delete at most `limit` letters that were settled before `before`; return how many.

    An open letter is kept, however old it is.
    """
    return await tx.execute(_FORGET, before=before, limit=limit)


def _ends(ends: dict[int, int]) -> str:
    return json.dumps({str(partition): end for partition, end in ends.items()})


def _headers(letter: DeadLetter) -> str:
    return json.dumps([[_clean(name), _clean(value)] for name, value in letter.headers])


def _clean(text: str) -> str:
    """PostgreSQL's text and jsonb refuse U+0000; a poison record may well contain it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _letter(*row: Any) -> DeadLetter:
    letter = DeadLetter._make(row)
    return letter._replace(headers=[(name, value) for name, value in letter.headers])
