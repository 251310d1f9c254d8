"""The topics, read from the first record to the last by another Kafka client than the platform's.

Guarantees: every record that stood in a topic when reading began is looked at; nothing is
committed and no group is joined. Bodies are decoded as JSON here, with no knowledge of the
platform's types.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from chaos.reconcile.evidence import Announced, Created, Letter, Topics
from chaos.reconcile.ledgers import UnreadableError

REQUEST_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 30.0
CREATED, STATUS_CHANGED = "order.created", "order.status_changed"
FAMILIES = ("order.", "payment.", "inventory.", "shipping.")
DEAD_LETTER_SUFFIX = ".dlt"
WITNESSES_MAX = 32


class Record(NamedTuple):
    """One record as the broker stores it; of headers with one name the last counts."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


class TopicReader(Protocol):
    """Reads whole topics; the tests have one of their own."""

    def topics(self) -> list[str]:
        """Names of all topics."""

    def read(self, topics: Iterable[str]) -> Iterator[Record]:
        """Every record of `topics`, in offset order per partition."""


class KafkaReader:
    """Reads topics of the broker at `bootstrap`. Raises UnreadableError."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def topics(self) -> list[str]:
        """Names of all topics."""
        consumer = self._consumer()
        try:
            return sorted(consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics)
        except KafkaException as error:
            raise UnreadableError(f"Kafka at {self._bootstrap}: {error}") from None
        finally:
            consumer.close()

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """End offset of every partition of `topics`."""
        consumer = self._consumer()
        try:
            return _ends(consumer, topics)
        except KafkaException as error:
            raise UnreadableError(f"Kafka at {self._bootstrap}: {error}") from None
        finally:
            consumer.close()

    def read(self, topics: Iterable[str]) -> Iterator[Record]:
        """Every record of `topics` up to the ends at the call."""
        consumer = self._consumer()
        try:
            ends = _ends(consumer, topics)
            missing = {place for place, end in ends.items() if end > 0}
            consumer.assign([TopicPartition(topic, part, 0) for topic, part in missing])
            progress_s = monotonic()
            while missing:
                if monotonic() - progress_s > STALL_TIMEOUT_S:
                    raise UnreadableError(f"Kafka: no record for {STALL_TIMEOUT_S:g} s")
                for message in consumer.consume(5_000, 0.2):
                    progress_s = monotonic()
                    place = (message.topic(), message.partition())
                    if message.error() is not None or message.offset() + 1 >= ends[place]:
                        missing.discard(place)
                    if message.error() is None and message.offset() < ends[place]:
                        yield _record(message)
        except KafkaException as error:
            raise UnreadableError(f"Kafka at {self._bootstrap}: {error}") from None
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "reconcile-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )


def read_topics(reader: TopicReader) -> Topics:
    """Return what the order, payment, inventory and shipping topics and the dead letters hold.

    Raises UnreadableError when a topic of orders is missing or cannot be read.
    """
    names = [name for name in reader.topics() if name.startswith(FAMILIES)]
    for needed in (CREATED, STATUS_CHANGED):
        if needed not in names:
            raise UnreadableError(f"Kafka: there is no topic {needed}")
    gathering = _Gathering()
    for record in reader.read(names):
        gathering.take(record)
    return gathering.topics()


class _Gathering:
    """Facts of records as they pass by; memory grows with ids, not with bodies."""

    def __init__(self) -> None:
        self._records: Counter[str] = Counter()
        self._bodies: dict[str, int] = {}
        self._homes: dict[tuple[str, bytes], int] = {}
        self._created: dict[str, Created] = {}
        self._statuses: defaultdict[str, set[str]] = defaultdict(set)
        self._latest: dict[str, Announced] = {}
        self._repeated = 0
        self._mutated: list[str] = []
        self._scattered: list[str] = []
        self._unreadable: list[str] = []
        self._letters: list[Letter] = []

    def take(self, record: Record) -> None:
        self._records[record.topic] += 1
        if record.topic.endswith(DEAD_LETTER_SUFFIX):
            self._letters.append(_letter(record))
            return
        where = f"{record.topic}[{record.partition}]@{record.offset}"
        home = self._homes.setdefault((record.topic, record.key or b""), record.partition)
        if home != record.partition:
            _add(self._scattered, f"{where}: its key also stands on partition {home}")
        event_id = record.headers.get("ce_id", b"").decode("utf-8", "replace")
        body = hash(record.value)
        if event_id in self._bodies:
            self._repeated += 1
            if self._bodies[event_id] != body and record.topic.startswith("order."):
                _add(self._mutated, f"{where}: {event_id} repeated with another body")
            return
        self._bodies[event_id] = body
        if record.topic in (CREATED, STATUS_CHANGED):
            self._order_event(record, where)

    def _order_event(self, record: Record, where: str) -> None:
        try:
            body: Any = json.loads(record.value or b"")
            order_id = str(body["order_id"])
            if (record.key or b"").decode() != order_id:
                raise ValueError("the key is another order's")
            if record.topic == STATUS_CHANGED:
                told = Announced(int(body["saga_version"]), str(body["status"]))
                self._statuses[order_id].add(told.status)
                if told.version >= self._latest.get(order_id, told).version:
                    self._latest[order_id] = told
            else:
                total, currency = int(body["total_minor"]), str(body["currency"])
                self._created[order_id] = Created(order_id, total, currency)
        except (ValueError, KeyError, TypeError) as error:
            _add(self._unreadable, f"{where}: {error!r}")

    def topics(self) -> Topics:
        return Topics(
            records=dict(self._records),
            created=self._created,
            statuses={order: frozenset(seen) for order, seen in self._statuses.items()},
            latest=self._latest,
            repeated=self._repeated,
            mutated=self._mutated,
            scattered=self._scattered,
            unreadable=self._unreadable,
            letters=self._letters,
        )


def _letter(record: Record) -> Letter:
    def header(name: str) -> str:
        return record.headers.get(name, b"").decode("utf-8", "replace")

    origin = f"{header('x-original-topic')}[{header('x-original-partition')}]"
    return Letter(
        record.topic,
        record.partition,
        record.offset,
        (record.key or b"").decode("utf-8", "replace"),
        f"{origin}@{header('x-original-offset')}",
        f"{header('x-error-class')}: {header('x-error-message')}",
    )


def _record(message: Any) -> Record:
    headers = {name: value or b"" for name, value in message.headers() or ()}
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        headers,
    )


def _ends(consumer: Any, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    known = consumer.list_topics(timeout=REQUEST_TIMEOUT_S).topics
    return {
        (topic, part): consumer.get_watermark_offsets(
            TopicPartition(topic, part), timeout=REQUEST_TIMEOUT_S
        )[1]
        for topic in topics
        if topic in known
        for part in known[topic].partitions
    }


def _add(texts: list[str], text: str) -> None:
    if len(texts) < WITNESSES_MAX:
        texts.append(text)
