"""Whole topics, read by another Kafka client than the platform's.

Guarantees: every record that stood in a topic when reading began is looked at, from the first
offset on; nothing is committed and no group is joined.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from time import monotonic
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from chaos.auditor import bodies, identity
from chaos.auditor.platform import (
    COUNTER,
    DEAD_LETTER_SUFFIX,
    FAMILIES,
    IDEMPOTENCY_TABLES,
    LETTER_COUNTER,
    PANE_TABLE,
    RETRY_TIERS,
    ROLE_OF_RAW,
    SAGA_TABLE,
)
from chaos.auditor.snapshot import digest, pane_facts
from chaos.auditor.sources import UnreadableError
from chaos.auditor.store import Store

REQUEST_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 60.0
BATCH_RECORDS = 5_000
PROGRESS_RECORDS = 250_000

_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_NUMBER = re.compile(rb"[0-9]{1,18}")

Place = tuple[str, int]


class Span(NamedTuple):
    """First offset and end offset of one partition."""

    first: int
    end: int


class Record(msgspec.Struct, gc=False):
    """One record as a row of the store."""

    topic: str
    partition: int
    offset: int
    at_s: float
    key: str
    order_id: str | None
    event_id: str | None
    position_id: str | None
    letter_id: str | None
    type: str
    correlation: str
    causation: str
    retry_role: str
    attempt: int
    origin_topic: str
    origin_partition: int
    origin_offset: int
    error: str
    body_hash: str
    readable: bool
    total_minor: int | None
    currency: str | None
    status: str | None
    reason: str | None
    saga_version: int | None
    operation: str | None
    outcome: str | None
    state_version: int | None
    said_s: float | None
    created_s: float | None
    held: bool | None
    approved: bool | None
    level: str | None
    restocked: int | None


class Topics:
    """The broker's topics. Every method raises UnreadableError when Kafka does not answer.

    One client asks all questions, however often: making one costs more than most answers.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})

    def names(self) -> list[str]:
        """Every topic of orders, its participants, retry tiers and dead letters."""
        return sorted(name for name in self._partitions() if name.startswith(FAMILIES))

    def spans(self, topics: Iterable[str]) -> dict[Place, Span]:
        """First and end offset of every partition of those of `topics` that exist."""
        known = self._partitions()
        places = [TopicPartition(t, p) for t in set(topics) & known.keys() for p in known[t]]
        first, end = self._offsets(places, OffsetSpec.earliest(), OffsetSpec.latest())
        return {place: Span(first[place], end[place]) for place in first}

    def committed(self, group: str) -> dict[Place, int]:
        """Committed offsets of a group, empty for a group that does not exist."""
        wanted = [ConsumerGroupTopicPartitions(group)]
        with self._asking():
            futures = self._admin.list_consumer_group_offsets(
                wanted, request_timeout=REQUEST_TIMEOUT_S
            )
            found = futures[group].result(REQUEST_TIMEOUT_S)
        return {
            (part.topic, part.partition): part.offset
            for part in found.topic_partitions
            if part.offset >= 0
        }

    def _partitions(self) -> dict[str, list[int]]:
        """The partitions of every topic there is."""
        with self._asking():
            found = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        return {name: list(topic.partitions) for name, topic in found.items()}

    def _offsets(
        self, places: Sequence[TopicPartition], *specs: OffsetSpec
    ) -> list[dict[Place, int]]:
        """What each of `specs` is at `places`, told in that order."""
        if not places:
            return [{} for _ in specs]
        with self._asking():
            asked = [
                self._admin.list_offsets(
                    dict.fromkeys(places, spec), request_timeout=REQUEST_TIMEOUT_S
                )
                for spec in specs
            ]
            return [
                {
                    (place.topic, place.partition): answer.result(REQUEST_TIMEOUT_S).offset
                    for place, answer in answers.items()
                }
                for answers in asked
            ]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (KafkaException, TimeoutError) as error:
            raise UnreadableError(f"Kafka at {self._bootstrap}: {error!r}") from None

    def read(self, spans: dict[Place, Span]) -> Iterator[Any]:
        """Every message from each partition's first to its end offset; per partition in order."""
        consumer = self._consumer()
        missing = {place for place, span in spans.items() if span.end > span.first}
        trouble = ""
        try:
            consumer.assign([TopicPartition(t, p, spans[t, p].first) for t, p in missing])
            progress_s = monotonic()
            while missing:
                if monotonic() - progress_s > STALL_TIMEOUT_S:
                    places = ", ".join(f"{topic}[{number}]" for topic, number in sorted(missing))
                    raise UnreadableError(
                        f"Kafka: no record for {STALL_TIMEOUT_S:g} s of {places} {trouble}".rstrip()
                    )
                for message in consumer.consume(BATCH_RECORDS, 0.2):
                    place, error = (message.topic(), message.partition()), message.error()
                    if error is None:
                        progress_s = monotonic()
                        if message.offset() < spans[place].end:
                            yield message
                        if message.offset() + 1 >= spans[place].end:
                            missing.discard(place)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        missing.discard(place)
                    else:
                        trouble = f"({error})"  # librdkafka tries again; the stall bounds it
        except KafkaException as error:
            raise UnreadableError(f"Kafka at {self._bootstrap}: {error}") from None
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "auditor-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 32_768,
                "log_level": 0,
            }
        )


def read_offsets(
    topics: Topics, namespace: str, store: Store, consumers: Iterable[str]
) -> dict[Place, Span]:
    """Note ends of topics and committed offsets: what stands below them was there before.

    Returns the spans. Call it before the snapshot of PostgreSQL is taken.
    """
    spans = topics.spans(topics.names())
    store.insert(
        "log_end",
        [
            {"topic": t, "partition": p, "first_offset": s.first, "before_offset": s.end}
            for (t, p), s in spans.items()
        ],
    )
    for role in (*consumers, ROLE_OF_RAW):
        committed = topics.committed(f"{namespace}-{role}")
        store.insert(
            "committed",
            [
                {"consumer": _consumer_of(role, topic), "topic": topic, "partition": partition,
                 "offset": offset}
                for (topic, partition), offset in committed.items()
            ],
        )  # fmt: skip
    return spans


def read_records(topics: Topics, store: Store, progress: Callable[[str], None]) -> int:
    """Read all records up to the ends of now. Returns how many."""
    spans = topics.spans(topics.names())
    total = sum(span.end - span.first for span in spans.values())

    def rows() -> Iterator[Record]:
        for number, message in enumerate(topics.read(spans), 1):
            if number % PROGRESS_RECORDS == 0:
                progress(f"Kafka: {number:,} of about {total:,} records")
            yield as_row(message)

    count = store.insert("record", rows())
    progress(f"Kafka: {count:,} records of {len({topic for topic, _ in spans})} topics")
    return count


def read_changelogs(topics: Topics, namespace: str, store: Store) -> None:
    """Read the changelogs of the tables that invariants look at."""
    role, saga_table = SAGA_TABLE
    counter, pane_table = PANE_TABLE
    names = {
        f"{namespace}-{role}-{saga_table}-changelog": saga_table,
        f"{namespace}-{counter}-{pane_table}-changelog": pane_table,
    } | {
        # two roles may call theirs the same: named by consumer, as T1 asks
        f"{namespace}-{role}-{table}-changelog": f"{role}_idempotency"
        for role, table in IDEMPOTENCY_TABLES.items()
    }

    def rows() -> Iterator[dict[str, Any]]:
        for message in topics.read(topics.spans(names)):
            table, value = names[message.topic()], message.value()
            yield {
                "tbl": table,
                "partition": message.partition(),
                "offset": message.offset(),
                "key": _table_key(table, message.key() or b""),
                "body_hash": None if value is None else _table_hash(table, value),
            }

    store.insert("changelog", rows())


def as_row(message: Any) -> Record:
    """One record, decoded by nothing but the public contract of headers and JSON."""
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    headers = dict(_headers(message))
    key, value = message.key() or b"", message.value()
    facts = bodies.read(value)
    known = facts or bodies.NOTHING
    letter = topic.endswith(DEAD_LETTER_SUFFIX)
    raw = letter or topic in RETRY_TIERS

    def text(name: str) -> str:
        return headers.get(name, b"").decode("utf-8", "replace")

    def number(name: str) -> int:
        found = headers.get(name, b"")
        return int(found) if _NUMBER.fullmatch(found) else 0

    return Record(
        topic, partition, offset, message.timestamp()[1] / 1000, key.decode("utf-8", "replace"),
        _uuid(key), _uuid(headers.get("ce_id", b"")),
        identity.of_position(topic, partition, offset) if raw else None,
        identity.of_letter(topic, partition, offset, headers) if letter else None,
        text("ce_type"), text("ce_correlationid"), text("ce_causationid"), text("x-retry-role"),
        number("x-attempt"), text("x-original-topic"), number("x-original-partition"),
        number("x-original-offset"), _error(text) if raw else "",
        digest(bodies.fingerprint(value)), facts is not None,
        known.total_minor, known.currency, known.status, known.reason, known.saga_version,
        known.operation, known.outcome, known.state_version,
        _seconds(text("ce_time")), _seconds(known.created_at or ""), known.held,
        known.approved, known.level, known.restocked,
    )  # fmt: skip


def _headers(message: Any) -> list[tuple[str, bytes]]:
    """Headers of a message; names that are not UTF-8 cannot be shown by this client."""
    try:
        return [(name, value or b"") for name, value in message.headers() or ()]
    except UnicodeDecodeError:
        return []


def _error(text: Callable[[str], str]) -> str:
    return f"{text('x-error-class')}: {text('x-error-message')}"[:300]


def _seconds(at: str) -> float | None:
    """An instant that names its zone, as Unix seconds."""
    try:
        found = datetime.fromisoformat(at)
        return None if found.tzinfo is None else found.timestamp()
    except (ValueError, OverflowError):
        return None


def _uuid(raw: bytes) -> str | None:
    return raw.decode() if _UUID.fullmatch(raw) else None


def _table_key(table: str, key: bytes) -> str:
    readable = table in (SAGA_TABLE[1], PANE_TABLE[1])
    return key.decode("utf-8", "replace") if readable else key.hex()


def _table_hash(table: str, value: bytes) -> str:
    """The fingerprint of an entry, the same as that of PostgreSQL's row."""
    if table != PANE_TABLE[1]:
        return digest(value)
    try:
        return pane_facts(msgspec.json.decode(value)).body_hash
    except (msgspec.DecodeError, KeyError, ValueError, TypeError, AttributeError):
        return "unreadable"


def _consumer_of(role: str, topic: str) -> str:
    if role == COUNTER:
        return LETTER_COUNTER if topic.endswith(DEAD_LETTER_SUFFIX) else COUNTER
    if role != ROLE_OF_RAW:
        return role
    return f"{ROLE_OF_RAW}-{topic}" if topic in RETRY_TIERS else f"{ROLE_OF_RAW}-index"
