"""Whole topics and offsets, read with a client that shares no code with the workers.

Guarantees: `TopicLog.advance` returns every record that was in the topic when it was called and was
not returned before, in offset order per partition, up to the high watermark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic, sleep
from typing import NamedTuple

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from chaos.records import PASSING

READ_TIMEOUT_S = 30.0
REQUEST_TIMEOUT_S = 10.0
LOOK_S = 0.2
# The client's own time-out comes first: it tells what happened.
GRACE_S = 5.0


class Record(NamedTuple):
    """One record as the broker stores it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class TopicLog:
    """A topic from its first record on, read in instalments."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._next = dict.fromkeys(range(partitions), 0)

    def advance(self) -> Iterator[Record]:
        """Records that appeared since the last call. Raises TimeoutError when reading stalls."""
        consumer = _consumer(self._bootstrap)
        try:
            ends = {p: _end(consumer, self._topic, p) for p in self._next}
            consumer.assign([TopicPartition(self._topic, p, o) for p, o in self._next.items()])
            progress_s = monotonic()
            while any(self._next[p] < end for p, end in ends.items()):
                if monotonic() - progress_s > READ_TIMEOUT_S:
                    raise TimeoutError(f"{self._topic}: no record for {READ_TIMEOUT_S} s")
                for message in consumer.consume(2000, 0.2):
                    progress_s = monotonic()
                    partition, offset = message.partition(), message.offset()
                    if message.error() is not None:
                        # End of partition: a compacted or transactional tail holds no record.
                        self._next[partition] = max(self._next[partition], ends[partition])
                        continue
                    self._next[partition] = offset + 1
                    yield Record(partition, offset, message.key(), message.value())
        finally:
            consumer.close()


def end_offsets(
    bootstrap: str, topics: Iterable[str], partitions: int
) -> dict[tuple[str, int], int]:
    """End offset of every partition. Raises KafkaException when the broker does not answer."""
    consumer = _consumer(bootstrap)
    try:
        return {(topic, p): _end(consumer, topic, p) for topic in topics for p in range(partitions)}
    finally:
        consumer.close()


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    """End offset of a partition, once the broker leads it."""
    deadline = monotonic() + READ_TIMEOUT_S
    place = TopicPartition(topic, partition)
    while True:
        try:
            return int(consumer.get_watermark_offsets(place, timeout=REQUEST_TIMEOUT_S)[1])
        except KafkaException as error:
            if error.args[0].code() not in PASSING or monotonic() > deadline:
                raise
        sleep(LOOK_S)


def committed_offsets(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    """Committed offsets of a group, without partitions it never committed.

    Raises KafkaException when the broker does not answer.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=REQUEST_TIMEOUT_S
    )
    try:
        answer = asked[group].result(timeout=REQUEST_TIMEOUT_S + GRACE_S)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None
    return {(tp.topic, tp.partition): tp.offset for tp in answer.topic_partitions if tp.offset >= 0}


def reachable(bootstrap: str, timeout_s: float) -> bool:
    """Whether a broker answers a metadata request on a new connection within `timeout_s`."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        admin.list_topics(timeout=timeout_s)
    except KafkaException:
        return False
    return True


def _consumer(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "ledger-audit",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
    )
