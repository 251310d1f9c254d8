"""Whole topics in instalments, and offsets, read past the workers.

Guarantees: `TopicLog.advance` returns every record that was in the topic when it was called and was
not returned before, in offset order per partition, up to the high watermark.
"""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from chaos import records
from chaos.records import Record

REQUEST_TIMEOUT_S = 10.0
# The client's own time-out comes first: it tells what happened.
GRACE_S = 5.0


class TopicLog:
    """A topic from its first record on, read in instalments."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._bootstrap = bootstrap
        self._next = {(topic, partition): 0 for partition in range(partitions)}

    def advance(self) -> Iterator[Record]:
        """Records that appeared since the last call. Raises LabError when reading stalls."""
        for record in records.read_on(self._bootstrap, dict(self._next)):
            self._next[record.topic, record.partition] = record.offset + 1
            yield record


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
