"""Where the records of one order stand: a look at the topics from outside, without a group."""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

LOOK_S = 30.0
FETCH_WAIT_MS = 50


class Found(NamedTuple):
    """A record: where it stands, when it came (ms since the epoch), and its CloudEvents type."""

    at_ms: int
    topic: str
    partition: int
    offset: int
    type: str


class Tail:
    """What comes to one topic from now on, whoever sends it. For one thread at a time.

    Raises KafkaException or OSError when Kafka does not answer `within_s` seconds.
    """

    def __init__(self, bootstrap: str, topic: str, within_s: float) -> None:
        self._topic = topic
        self._reader = _reader(bootstrap)
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
                TopicPartition(self._topic, partition), timeout=max(0.05, until - monotonic())
            )[1]
            for partition in found.partitions
        }

    def _is_next(self, key: bytes, wait_s: float) -> bool:
        message = self._reader.poll(wait_s)
        if message is None:
            return False
        _check(message)
        self._next[message.partition()] = message.offset() + 1
        return bool(message.key() == key)


def records_of(bootstrap: str, order_id: str, since_ms: int) -> list[Found]:
    """Return every record with key `order_id` since `since_ms`, in the order in which they came.

    Reads all topics, save changelogs and Kafka's own, to the ends that they have at the call.
    Raises KafkaException or OSError when that is not done within LOOK_S.
    """
    until = monotonic() + LOOK_S
    reader = _reader(bootstrap)
    try:
        ends: dict[tuple[str, int], int] = {}
        starts = []
        for name, topic in reader.list_topics(timeout=LOOK_S).topics.items():
            if name.startswith("__") or name.endswith("-changelog"):
                continue
            starts += [TopicPartition(name, partition, since_ms) for partition in topic.partitions]
        wanted = []
        for one in reader.offsets_for_times(starts, timeout=_left_s(until)):
            _, end = reader.get_watermark_offsets(one, timeout=_left_s(until))
            if 0 <= one.offset < end:
                ends[one.topic, one.partition] = end
                wanted.append(one)
        return sorted(_read(reader, wanted, ends, order_id.encode(), until))
    finally:
        reader.close()


def _read(
    reader: Consumer,
    wanted: list[TopicPartition],
    ends: dict[tuple[str, int], int],
    key: bytes,
    until: float,
) -> list[Found]:
    found = []
    reader.assign(wanted)
    while ends:
        message = reader.poll(_left_s(until))
        if message is None:
            raise OSError(f"topics could not be read to their ends within {LOOK_S:g} s")
        _check(message)
        place = (message.topic(), message.partition())
        if message.key() == key:
            headers = dict(message.headers() or ())
            kind = (headers.get("ce_type") or b"").decode("utf-8", "replace")
            found.append(Found(message.timestamp()[1], *place, message.offset(), kind))
        if place in ends and message.offset() + 1 >= ends[place]:
            del ends[place]
    return found


def _reader(bootstrap: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "symphony-demo-look",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            # a broker answers one request of a connection after the other: fetches that wait for
            # records would hold up the question where the topic ends
            "fetch.wait.max.ms": FETCH_WAIT_MS,
        }
    )


def _left_s(until: float) -> float:
    return max(0.05, until - monotonic())


def _check(message: Message) -> None:
    if (error := message.error()) is not None:
        raise KafkaException(error)
