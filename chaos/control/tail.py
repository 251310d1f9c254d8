"""What comes to a topic from now on, looked at from outside, without a group."""

from __future__ import annotations

from time import monotonic

from confluent_kafka import Consumer, KafkaException, TopicPartition

FETCH_WAIT_MS = 50
LEFT_MIN_S = 0.05


class Tail:
    """What comes to one topic from now on, whoever sends it. For one thread at a time.

    Raises KafkaException or OSError when Kafka does not answer `within_s` seconds.
    """

    def __init__(self, bootstrap: str, topic: str, within_s: float) -> None:
        self._topic = topic
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "symphony-demo-look",
                "enable.auto.commit": False,
                "enable.partition.eof": False,
                # a broker answers one request of a connection after the other: fetches that wait
                # for records would hold up the question where the topic ends
                "fetch.wait.max.ms": FETCH_WAIT_MS,
            }
        )
        try:
            self._next = self._ends(within_s)
            self._reader.assign([TopicPartition(topic, *place) for place in self._next.items()])
        except BaseException:
            self._reader.close()
            raise

    def find(self, key: bytes, for_s: float, within_s: float) -> bool:
        """Whether a record with `key` comes within `for_s` seconds; then the tail is closed.

        It is not said of a topic that was not read to its end, for which there are `within_s` more.
        """
        try:
            until = monotonic() + for_s
            while (left_s := until - monotonic()) > 0:
                if self._is_next(key, left_s):
                    return True
            until, ends = monotonic() + within_s, self._ends(within_s)
            while any(self._next[partition] < end for partition, end in ends.items()):
                if (left_s := until - monotonic()) <= 0:
                    raise OSError(f"{self._topic} could not be read to its end in {within_s:g} s")
                if self._is_next(key, left_s):
                    return True
            return False
        finally:
            self.close()

    def close(self) -> None:
        """Let Kafka go."""
        self._reader.close()

    def _ends(self, within_s: float) -> dict[int, int]:
        """Where the topic ends now, by partition."""
        until = monotonic() + within_s
        found = self._reader.list_topics(self._topic, timeout=within_s).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return {
            partition: self._reader.get_watermark_offsets(
                TopicPartition(self._topic, partition),
                timeout=max(LEFT_MIN_S, until - monotonic()),
            )[1]
            for partition in found.partitions
        }

    def _is_next(self, key: bytes, wait_s: float) -> bool:
        message = self._reader.poll(wait_s)
        if message is None:
            return False
        if (error := message.error()) is not None:
            raise KafkaException(error)
        self._next[message.partition()] = message.offset() + 1
        return bool(message.key() == key)
