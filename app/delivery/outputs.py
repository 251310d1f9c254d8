"""Records of one step, sent as one record batch per partition and acknowledged before it returns.

Faust's own ways out (`topic.send`, sinks, `send_soon`, the producer buffer) report failures after
the offset was committed, or only to a log; none of them is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka.partitioner import DefaultPartitioner

Headers = Sequence[tuple[str, bytes]]


class Acked(NamedTuple):
    """One acknowledged record batch: `records` records from `first_offset` on."""

    topic: str
    partition: int
    first_offset: int
    records: int


class BatchProducer(Protocol):
    """The part of AIOKafkaProducer that is used."""

    def create_batch(self) -> Any: ...

    async def send_batch(
        self, batch: Any, topic: str, *, partition: int
    ) -> asyncio.Future[Any]: ...

    async def partitions_for(self, topic: str) -> set[int]: ...


_partitioner = DefaultPartitioner()


class Outputs:
    """Collects records; `flush` returns when the broker acknowledged every one.

    Records of one partition keep the order of `add`. Delivery is at least once: after an error
    nothing is known about what was written, and the caller repeats the whole step.
    """

    def __init__(self, producer: BatchProducer, *, batch_max_bytes: int = 512 * 1024) -> None:
        self._producer = producer
        self._batch_max_bytes = batch_max_bytes
        self._open: dict[tuple[str, int], Any] = {}
        self._sent: list[tuple[str, int, int, asyncio.Future[Any]]] = []

    async def add(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
    ) -> None:
        """Append one record; partition None means by hash of the key, as Kafka's default does.

        A record too large to stand with others gets a batch of its own: the broker judges it.
        """
        if partition is None:
            partition = await self._partition_of(topic, key)
        tp = (topic, partition)
        listed = headers if isinstance(headers, list) else list(headers)
        batch = self._open.get(tp)
        if batch is not None:
            full = batch.size() > self._batch_max_bytes
            if not full and batch.append(timestamp=None, key=key, value=value, headers=listed):
                return
            await self._send(tp)
        batch = self._open[tp] = self._producer.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=listed)

    async def flush(self) -> list[Acked]:
        """Send what is open and await every acknowledgement. Raises what the producer raised."""
        for tp in list(self._open):
            await self._send(tp)
        sent, self._sent = self._sent, []
        acked = []
        for topic, partition, count, future in sent:
            metadata = await future
            acked.append(Acked(topic, partition, metadata.offset, count))
        return acked

    async def _partition_of(self, topic: str, key: bytes | None) -> int:
        partitions = sorted(await self._producer.partitions_for(topic))
        return int(_partitioner(key, partitions, partitions))

    async def _send(self, tp: tuple[str, int]) -> None:
        batch = self._open.pop(tp)
        batch.close()
        count = batch.record_count()
        if count:
            future = await self._producer.send_batch(batch, tp[0], partition=tp[1])
            self._sent.append((tp[0], tp[1], count, future))
