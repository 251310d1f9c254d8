"""Where the records of one order stand: a look at the topics from outside, without a group."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

LOOK_S = 10.0


class Found(NamedTuple):
    """A record: where it stands, when it came (ms since the epoch), and its CloudEvents type."""

    at_ms: int
    topic: str
    partition: int
    offset: int
    type: str


def records_of(bootstrap: str, order_id: str, since_ms: int) -> list[Found]:
    """Return every record with key `order_id` since `since_ms`, in the order in which they came.

    Reads to the ends that the topics have at the call. Changelogs and control topics are left out.
    """
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "symphony-demo-look",
                       "enable.auto.commit": False, "enable.partition.eof": False})  # fmt: skip
    try:
        ends: dict[tuple[str, int], int] = {}
        starts = []
        for name, topic in reader.list_topics(timeout=LOOK_S).topics.items():
            if name.startswith("__") or name.endswith("-changelog"):
                continue
            starts += [TopicPartition(name, partition, since_ms) for partition in topic.partitions]
        wanted = []
        for one in reader.offsets_for_times(starts, timeout=LOOK_S):
            _, end = reader.get_watermark_offsets(one, timeout=LOOK_S)
            if 0 <= one.offset < end:
                ends[one.topic, one.partition] = end
                wanted.append(one)
        return sorted(_read(reader, wanted, ends, order_id.encode()))
    finally:
        reader.close()


def _read(
    reader: Consumer,
    wanted: list[TopicPartition],
    ends: dict[tuple[str, int], int],
    key: bytes,
) -> list[Found]:
    found = []
    reader.assign(wanted)
    while ends:
        message = reader.poll(LOOK_S)
        if message is None or message.error():
            raise OSError(f"Kafka did not answer within {LOOK_S:g} s while topics were read")
        place = (message.topic(), message.partition())
        if message.key() == key:
            headers = dict(message.headers() or ())
            kind = (headers.get("ce_type") or b"").decode("utf-8", "replace")
            found.append(Found(message.timestamp()[1], *place, message.offset(), kind))
        if place in ends and message.offset() + 1 >= ends[place]:
            del ends[place]
    return found
