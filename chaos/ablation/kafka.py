"""Records as the laboratory reads and writes them: raw, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from chaos.lab.process import LabError

TIMEOUT_S = 20.0
POLL_S = 0.1


class Record(NamedTuple):
    """A record with all it was sent with; `timestamp` is milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def read(bootstrap: str, topics: Iterable[str]) -> list[Record]:
    """Every record of `topics` now; per partition in order. Raises LabError."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "laboratory-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    found: list[Record] = []
    try:
        known = consumer.list_topics(timeout=TIMEOUT_S).topics
        left = {(name, part) for name in topics if name in known for part in known[name].partitions}
        consumer.assign([TopicPartition(name, part, 0) for name, part in left])
        progress_s = monotonic()
        while left:
            if monotonic() - progress_s > TIMEOUT_S:
                raise LabError(f"Kafka at {bootstrap} brought no record for {TIMEOUT_S:g} s")
            for message in consumer.consume(2_000, POLL_S):
                progress_s = monotonic()
                if message.error() is not None:
                    left.discard((message.topic(), message.partition()))
                else:
                    found.append(_record(message))
    except KafkaException as error:
        raise LabError(f"Kafka at {bootstrap}: {error}") from None
    finally:
        consumer.close()
    return found


def publish(bootstrap: str, records: Iterable[Record]) -> int:
    """Write records as they are, each to its partition; return how many the broker has taken.

    Raises LabError unless it took all.
    """
    refused: list[str] = []
    taken = 0

    def delivered(error: Any, _: Any) -> None:
        nonlocal taken
        if error is not None:
            refused.append(str(error))
        else:
            taken += 1

    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0})
    for one in records:
        producer.produce(
            one.topic,
            key=one.key,
            value=one.value,
            partition=one.partition,
            headers=list(one.headers),
            on_delivery=delivered,
        )
        producer.poll(0)
    if producer.flush(TIMEOUT_S) or refused:
        raise LabError(f"Kafka at {bootstrap} refused records: {refused[:1] or 'no answer'}")
    return taken


def _record(message: Any) -> Record:
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )
