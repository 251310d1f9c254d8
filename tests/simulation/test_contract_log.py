"""The log in memory keeps the same contracts as the real broker: one set of assertions.

Both are written through the product's own `Outputs`, and read record by record.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as Place
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.delivery.outputs import Acked, BatchProducer, Outputs
from chaos.simulation.environment import installed
from chaos.simulation.log import Producer
from chaos.simulation.plan import Plan
from chaos.simulation.world import PARTITIONS, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from chaos.lab.broker import Broker

CALM = Plan(seed=1, orders=1, faults=(), until_s=1.0)
TOPIC = "contract"


class Kit(Protocol):
    """A topic of a log, and what a contract needs beside it."""

    topic: str

    async def producer(self) -> BatchProducer:
        """A producer of its own."""

    async def records(self) -> list[Any]:
        """Every record of the topic: partition by partition, each from its first offset on."""


CONTRACTS: list[Callable[[Kit], Awaitable[None]]] = []


def contract(function: Callable[[Kit], Awaitable[None]]) -> Any:
    """Add a contract."""
    CONTRACTS.append(function)
    return function


async def send(producer: BatchProducer, kit: Kit, partition: int, *values: bytes) -> list[Acked]:
    """One step's outputs to one partition."""
    outputs = Outputs(producer)
    for value in values:
        await outputs.add(kit.topic, partition, b"key", value)
    return await outputs.flush()


@contract
async def keeps_an_acknowledged_record_as_it_was_sent(kit: Kit) -> None:
    """Key, value and headers, an absent key or value, at the offset that was acknowledged."""
    outputs = Outputs(await kit.producer())
    headers = [("ce_id", b"1"), ("ce_id", b"2"), ("empty", b"")]
    await outputs.add(kit.topic, 1, b"key", b"value", headers)
    await outputs.add(kit.topic, 1, b"key", None)
    await outputs.add(kit.topic, 1, None, b"")
    assert await outputs.flush() == [Acked(kit.topic, 1, 0, 3)]
    kept = [(one.offset, one.key, one.value, tuple(one.headers)) for one in await kit.records()]
    assert kept == [
        (0, b"key", b"value", tuple(headers)),
        (1, b"key", None, ()),
        (2, None, b"", ()),
    ]


@contract
async def gives_every_partition_offsets_without_a_gap(kit: Kit) -> None:
    """An acknowledgement names the first offset of its batch."""
    producer = await kit.producer()
    assert await send(producer, kit, 0, b"a", b"b") == [Acked(kit.topic, 0, 0, 2)]
    assert await send(producer, kit, 1, b"c") == [Acked(kit.topic, 1, 0, 1)]
    assert await send(producer, kit, 0, b"d") == [Acked(kit.topic, 0, 2, 1)]
    places = [(one.partition, one.offset) for one in await kit.records()]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0)]


@contract
async def keeps_the_order_of_a_producers_batches(kit: Kit) -> None:
    """However many are under way together, to one partition."""
    outputs = Outputs(await kit.producer(), batch_max_bytes=1)
    for number in range(20):
        await outputs.add(kit.topic, 0, b"key", b"%d" % number)
    acked = [one.first_offset for one in await outputs.flush()]
    assert acked == list(range(20))
    assert [one.value for one in await kit.records()] == [b"%d" % number for number in range(20)]


@contract
async def keeps_a_batch_together(kit: Kit) -> None:
    """Two producers at the same partition: no record of one within a batch of the other."""
    one, other = await kit.producer(), await kit.producer()
    await asyncio.gather(
        *(
            send(producer, kit, 1, *(b"%s%d" % (name, number) for number in range(5)))
            for producer, name in ((one, b"a"), (other, b"b"))
            for _ in range(4)
        )
    )
    values = [record.value for record in await kit.records()]
    assert len(values) == 40
    for first in range(0, 40, 5):
        name = values[first][:1]
        assert values[first : first + 5] == [b"%s%d" % (name, number) for number in range(5)]


@contract
async def places_a_key_by_its_hash(kit: Kit) -> None:
    """Always on the same partition, whoever sends it, and every partition gets some."""
    keys = [b"order-%d" % number for number in range(12)]
    for producer in (await kit.producer(), await kit.producer()):
        outputs = Outputs(producer)
        for key in keys:
            await outputs.add(kit.topic, None, key, b"value")
        await outputs.flush()
    found: dict[bytes, set[int]] = {}
    for one in await kit.records():
        found.setdefault(one.key, set()).add(one.partition)
    assert set(found) == set(keys)
    assert all(len(partitions) == 1 for partitions in found.values())
    assert found[b"order-0"] == {0}
    assert {part for partitions in found.values() for part in partitions} == set(range(PARTITIONS))


class MemoryKit:
    """The log of a world."""

    topic = TOPIC

    def __init__(self, world: World) -> None:
        self._world = world

    async def producer(self) -> BatchProducer:
        return Producer(self._world)

    async def records(self) -> list[Any]:
        return list(self._world.log.records(self.topic))


class KafkaKit:
    """A new topic of a real broker. Close it at the end."""

    def __init__(self, bootstrap: str) -> None:
        self.topic = f"{TOPIC}-{uuid.uuid4().hex[:8]}"
        self._bootstrap = bootstrap
        self._producers: list[Any] = []

    async def create(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])
        finally:
            await admin.close()

    async def producer(self) -> BatchProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, enable_idempotence=True, acks="all"
        )
        await producer.start()
        self._producers.append(producer)
        made: BatchProducer = producer
        return made

    async def records(self) -> list[Any]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, group_id=None
        )
        await consumer.start()
        try:
            places = [Place(self.topic, number) for number in range(PARTITIONS)]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            found: list[Any] = []
            while len(found) < sum(ends.values()):
                for listed in (await consumer.getmany(*places, timeout_ms=1000)).values():
                    found += listed
            return sorted(found, key=lambda one: (one.partition, one.offset))
        finally:
            await consumer.stop()

    async def close(self) -> None:
        for producer in self._producers:
            await producer.stop()


_NAMES = [one.__name__ for one in CONTRACTS]  # type: ignore[attr-defined]


@pytest.mark.unit
@pytest.mark.parametrize("function", CONTRACTS, ids=_NAMES)
def test_the_log_in_memory(function: Callable[[Kit], Awaitable[None]]) -> None:
    """The contract holds on virtual time."""
    world = World(CALM)
    with installed(world):
        try:
            world.loop.run(_main(function(MemoryKit(world))))
        finally:
            world.loop.close()
    assert world.loop.problems == []


async def _main(contract: Awaitable[None]) -> None:
    await contract


@pytest.fixture
async def kafka(broker: Broker) -> AsyncIterator[KafkaKit]:
    """A topic of the real broker."""
    kit = KafkaKit(broker.bootstrap)
    await kit.create()
    yield kit
    await kit.close()


@pytest.mark.integration
@pytest.mark.parametrize("function", CONTRACTS, ids=_NAMES)
async def test_the_real_broker(function: Callable[[Kit], Awaitable[None]], kafka: KafkaKit) -> None:
    """The same assertions hold on Kafka."""
    await function(kafka)
