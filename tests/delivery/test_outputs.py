"""Outputs: one batch per partition, order kept, every acknowledgement awaited."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from app.delivery.outputs import Acked, Outputs

pytestmark = pytest.mark.unit


class Sent(NamedTuple):
    topic: str
    partition: int
    values: list[bytes]


class FakeProducer:
    """aiokafka's own batches, acknowledged in memory; `fail_on` refuses one topic."""

    def __init__(self, fail_on: str = "", limit: int = 4096) -> None:
        self.sent: list[Sent] = []
        self._fail_on, self._limit = fail_on, limit
        self._ends: dict[tuple[str, int], int] = {}

    def create_batch(self) -> Any:
        return BatchBuilder(self._limit, 0)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        values = [bytes(one.value or b"") for one in _read(batch)]
        self.sent.append(Sent(topic, partition, values))
        future = asyncio.get_running_loop().create_future()
        if topic == self._fail_on:
            future.set_exception(ConnectionError("refused"))
            return future
        first = self._ends.get((topic, partition), 0)
        self._ends[topic, partition] = first + len(values)
        future.set_result(type("Metadata", (), {"offset": first})())
        return future

    async def partitions_for(self, topic: str) -> set[int]:
        return {3, 1, 0, 2}


def _read(batch: Any) -> list[Any]:
    found = MemoryRecords(bytes(batch._build()))
    records = []
    while found.has_next():
        records += list(found.next_batch())
    return records


async def test_each_partition_gets_one_batch_in_order() -> None:
    """Records of one partition travel together, in the order they were added."""
    producer = FakeProducer()
    outputs = Outputs(producer)
    for number in range(6):
        await outputs.add("out", number % 2, b"k", b"%d" % number)
    acked = await outputs.flush()
    assert producer.sent == [Sent("out", 0, [b"0", b"2", b"4"]), Sent("out", 1, [b"1", b"3", b"5"])]
    assert acked == [Acked("out", 0, 0, 3), Acked("out", 1, 0, 3)]


async def test_a_full_batch_rolls_over_and_keeps_the_order() -> None:
    """Past the size of a batch the next one begins; offsets say which records are where."""
    producer = FakeProducer()
    outputs = Outputs(producer, batch_max_bytes=1000)
    for number in range(10):
        await outputs.add("out", 0, b"k", b"%d" % number + b"." * 300)
    acked = await outputs.flush()
    values = [value[:1] for one in producer.sent for value in one.values]
    assert values == [b"%d" % number for number in range(10)]
    assert len(acked) > 2
    assert [one.first_offset for one in acked] == [
        sum(one.records for one in acked[:n]) for n in range(len(acked))
    ]


async def test_headers_count_towards_the_size_of_a_batch() -> None:
    """Records with large headers roll over like large values."""
    producer = FakeProducer(limit=4096)
    outputs = Outputs(producer, batch_max_bytes=1000)
    for _ in range(8):
        await outputs.add("out", 0, b"k", b"v", [("x-long", b"." * 900)])
    assert [one.records for one in await outputs.flush()] == [2, 2, 2, 2]


async def test_without_a_partition_the_key_decides() -> None:
    """The same key always goes to the same partition, as Kafka's default does it."""
    producer = FakeProducer()
    outputs = Outputs(producer)
    for _ in range(3):
        await outputs.add("out", None, b"order-1", b"v")
    acked = await outputs.flush()
    assert [(one.records, one.partition) for one in acked] == [(3, 2)]


async def test_a_record_larger_than_a_batch_stands_alone() -> None:
    """A record beyond the producer's limit is neither cut nor dropped: the broker judges it."""
    producer = FakeProducer(limit=500)
    outputs = Outputs(producer, batch_max_bytes=10_000)
    for value in (b"small", b"." * 600, b"after"):
        await outputs.add("out", 0, b"k", value)
    assert [one.records for one in await outputs.flush()] == [1, 1, 1]
    assert [one.values for one in producer.sent] == [[b"small"], [b"." * 600], [b"after"]]


async def test_a_refused_batch_raises() -> None:
    """An error of the broker reaches the step; nothing counts as acknowledged."""
    outputs = Outputs(FakeProducer(fail_on="bad"))
    await outputs.add("good", 0, b"k", b"v")
    await outputs.add("bad", 0, b"k", b"v")
    with pytest.raises(ConnectionError, match="refused"):
        await outputs.flush()


async def test_nothing_added_is_nothing_sent() -> None:
    """A flush without records asks nobody."""
    producer = FakeProducer()
    assert await Outputs(producer).flush() == []
    assert producer.sent == []


async def test_a_flush_starts_anew() -> None:
    """Batches are acknowledged once; a second flush sends only what came since."""
    producer = FakeProducer()
    outputs = Outputs(producer)
    await outputs.add("out", 0, None, b"1")
    await outputs.flush()
    await outputs.add("out", 0, None, None)
    assert await outputs.flush() == [Acked("out", 0, 1, 1)]
