"""Kafka in memory: topics of partitions of records, committed offsets per group, producers.

It promises: a record that was acknowledged stands in its partition for ever at one offset; batches
of one producer to one partition keep their order; a produce request outlives the process that sent
it, or is lost with it. What a real broker never does (losing or holding back an acknowledged
record) happens only where a fault says so.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from chaos.simulation.process import WorkerEnded, current

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaos.simulation.world import World

Header = tuple[str, bytes]


class Sent(NamedTuple):
    """One record on its way."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


class Metadata(NamedTuple):
    """What an acknowledgement says."""

    offset: int


class Log:
    """All topics; `listeners` are told of every new record of a topic."""

    def __init__(self, world: World, partitions: int) -> None:
        self._world = world
        self.partitions = partitions
        self.topics: defaultdict[str, list[list[ConsumerRecord]]] = defaultdict(
            lambda: [[] for _ in range(partitions)]
        )
        self.listeners: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self.committed: defaultdict[str, dict[TP, int]] = defaultdict(dict)
        self.down = False

    def append(self, topic: str, partition: int, sent: Sent) -> int:
        """Write a record; return its offset."""
        records = self.topics[topic][partition]
        offset = len(records)
        now_ms = int(self._world.clock.now().timestamp() * 1000)
        records.append(
            ConsumerRecord(
                *(topic, partition, offset, now_ms, 1, sent.key, sent.value, None),
                len(sent.key or b""),
                len(sent.value or b""),
                tuple(sent.headers),
            )
        )
        self._world.note("append", topic, partition, offset, sent.key)
        for listener in self.listeners[topic]:
            listener()
        return offset

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record."""
        return len(self.topics[topic][partition])

    def records(self, topic: str) -> list[ConsumerRecord]:
        """All records of a topic, partition by partition."""
        return [one for listed in self.topics[topic] for one in listed] if self.has(topic) else []

    def has(self, topic: str) -> bool:
        """Whether anything was ever sent to or read from a topic."""
        return topic in self.topics


class Batch:
    """A record batch being put together, as aiokafka's builder."""

    def __init__(self) -> None:
        self.records: list[Sent] = []
        self._bytes = 0

    def append(
        self,
        *,
        timestamp: None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
    ) -> bool:
        """Add a record; there is always room."""
        del timestamp
        self.records.append(Sent(key, value, headers))
        self._bytes += len(key or b"") + len(value or b"")
        return True

    def size(self) -> int:
        """About how many bytes."""
        return self._bytes

    def close(self) -> None:
        """Nothing more will be added."""

    def record_count(self) -> int:
        """How many records."""
        return len(self.records)


class Producer:
    """One process's idempotent producer: `app.delivery.outputs.BatchProducer`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._process = current()
        self._free_at: dict[tuple[str, int], float] = {}

    def create_batch(self) -> Any:
        """Return an empty batch."""
        return Batch()

    async def partitions_for(self, topic: str) -> set[int]:
        """The partitions of any topic."""
        del topic
        return set(range(self._world.log.partitions))

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """Send; the future is done when the broker acknowledged."""
        if not self._process.alive:
            raise WorkerEnded
        world = self._world
        tp = (topic, partition)
        acked: asyncio.Future[Any] = world.loop.create_future()
        arrives = max(world.loop.time() + world.delay("log"), self._free_at.get(tp, 0.0))
        self._free_at[tp] = arrives
        self._request(arrives, tp, batch.records, acked)
        return acked

    def _request(
        self, at: float, tp: tuple[str, int], records: list[Sent], acked: asyncio.Future[Any]
    ) -> None:
        world = self._world
        world.loop.later(at - world.loop.time(), self._arrive, tp, records, acked)

    def _arrive(self, tp: tuple[str, int], records: list[Sent], acked: asyncio.Future[Any]) -> None:
        world = self._world
        if not self._process.alive and world.faults.forgets_request():
            return
        if world.log.down:
            at = world.loop.time() + 0.25
            self._free_at[tp] = max(at, self._free_at[tp])
            self._request(at, tp, records, acked)
            return
        first = world.log.end(*tp)
        for record in records:
            if not world.faults.intercepts(*tp, record):
                world.log.append(*tp, record)
        world.loop.later(world.delay("log"), _acknowledge, acked, Metadata(first))


def _acknowledge(acked: asyncio.Future[Any], metadata: Metadata) -> None:
    if not acked.done():
        acked.set_result(metadata)
