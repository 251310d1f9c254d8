"""Reading and writing whole topics past the product: raw bytes in, raw bytes out.

For the laboratory's own tools; the auditor has a reader of its own and shares none with them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from chaos.lab.process import LabError

Headers = tuple[tuple[str, bytes | None], ...]
TIMEOUT_S = 30.0
LOOK_S = 0.2
PASSING = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
"""What a broker answers for a moment after it has started."""


class Record(NamedTuple):
    """One record; `offset` is -1 while it was not written, `timestamp` is milliseconds since the
    epoch, 0 when it was not read.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    offset: int = -1
    timestamp: int = 0


def publish(bootstrap: str, records: Iterable[Record]) -> list[Record]:
    """Write records to their partitions, in order; as the broker acknowledged them.

    Raises LabError when one was not acknowledged within 30 s.
    """
    written: dict[int, Record] = {}
    failed: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "message.max.bytes": 4_000_000,
            "log_level": 0,
        }
    )
    count = 0
    for number, record in enumerate(records):

        def told(error: Any, message: Message, number: int = number, one: Record = record) -> None:
            if error is not None:
                failed.append(str(error))
            else:
                place, (_, stamp) = int(message.offset() or 0), message.timestamp()
                written[number] = one._replace(offset=place, timestamp=int(stamp))

        producer.produce(
            record.topic,
            record.value,
            record.key,
            partition=record.partition,
            headers=list(record.headers),
            on_delivery=told,
        )
        producer.poll(0)
        count = number + 1
    left = producer.flush(TIMEOUT_S)
    if left or failed or len(written) != count:
        raise LabError(f"{count - len(written)} of {count} records were not taken: {failed[:3]}")
    return [written[number] for number in range(count)]


def read(
    bootstrap: str, topics: Iterable[str], *, last: int | None = None, since_ms: int | None = None
) -> Iterator[Record]:
    """Every record of those of `topics` that exist, or the `last` so many of each partition, or
    those since `since_ms` of the epoch; per partition in order.

    Raises LabError when the broker does not answer, or gives nothing for 30 s.
    """
    with _consumer(bootstrap) as consumer:
        starts = {}
        for topic, partition in partitions(bootstrap, topics):
            low, high = _ends(consumer, TopicPartition(topic, partition))
            if last is not None:
                low = max(low, high - last)
            if since_ms is not None and high > low:
                asked = [TopicPartition(topic, partition, since_ms)]
                found = consumer.offsets_for_times(asked, timeout=TIMEOUT_S)[0].offset
                low = found if found >= 0 else high
            if high > low:
                starts[topic, partition] = low
        yield from _read(consumer, starts)


def read_on(bootstrap: str, starts: Mapping[tuple[str, int], int]) -> Iterator[Record]:
    """Every record of these partitions from an offset of each; per partition in order.

    Raises LabError as `read` does.
    """
    with _consumer(bootstrap) as consumer:
        yield from _read(consumer, starts)


def end_offsets(
    bootstrap: str, places: Iterable[tuple[str, int]], request_s: float = TIMEOUT_S
) -> dict[tuple[str, int], int]:
    """Where these partitions end now. Raises LabError when the broker does not answer within
    `request_s`.
    """
    with _consumer(bootstrap) as consumer:
        return {place: _ends(consumer, TopicPartition(*place), request_s)[1] for place in places}


@contextmanager
def _consumer(bootstrap: str) -> Iterator[Consumer]:
    """A client without a group, that commits nothing."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "laboratory-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 4_000_000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )
    try:
        yield consumer
    except KafkaException as error:
        raise LabError(f"Kafka at {bootstrap}: {error}") from None
    finally:
        consumer.close()


def _read(consumer: Consumer, starts: Mapping[tuple[str, int], int]) -> Iterator[Record]:
    consumer.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
    left = set(starts)
    heard_s = time.monotonic()
    while left:
        if time.monotonic() - heard_s > TIMEOUT_S:
            raise LabError(f"nothing was read for {TIMEOUT_S:g} s from {sorted(left)}")
        for message in consumer.consume(1000, LOOK_S):
            error = message.error()
            if error is None:
                heard_s = time.monotonic()
                yield _record(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard((message.topic(), message.partition()))


def _ends(
    consumer: Consumer, place: TopicPartition, request_s: float = TIMEOUT_S
) -> tuple[int, int]:
    """First and end offset of a partition, once the broker leads it."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=request_s)
        except KafkaException as error:
            if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)
        else:
            return int(low), int(high)


def partitions(bootstrap: str, topics: Iterable[str]) -> list[tuple[str, int]]:
    """Every partition of those of `topics` that exist."""
    known = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(
        timeout=TIMEOUT_S
    )
    return [
        (topic, number)
        for topic in sorted(topics)
        if topic in known.topics
        for number in known.topics[topic].partitions
    ]


def _record(message: Message) -> Record:
    headers = tuple(message.headers() or ())
    return Record(
        str(message.topic()),
        int(message.partition() or 0),
        message.key(),
        message.value(),
        headers,
        int(message.offset() or 0),
        int(message.timestamp()[1]),
    )
