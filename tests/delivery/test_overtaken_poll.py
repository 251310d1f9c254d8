"""A poll that a rebalance overtakes gives its records back; aiokafka's own fetcher, no broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition
from faust.types import TP

from app.delivery.consumer_thread import ConsumerThread
from tests.delivery.builders import record
from tests.waiting import eventually

pytestmark = pytest.mark.unit

COMMITTED = 56
RECORDS = 5
TPS = [TopicPartition("in", number) for number in range(2)]


class Rows:
    """Unpacked records of one partition from the committed offset on, as FetchResult reads them."""

    def __init__(self, tp: TopicPartition) -> None:
        self.next_fetch_offset, self._tp = COMMITTED, tp

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.next_fetch_offset == COMMITTED + RECORDS:
            raise StopIteration
        self.next_fetch_offset += 1
        return record(self.next_fetch_offset - 1, self._tp.partition, self._tp.topic)


class Polled:
    """A consumer thread over a fetcher to which `arrive` brings the same records each time."""

    def __init__(self) -> None:
        subscription = SubscriptionState()
        subscription.assign_from_user(TPS)
        self._assignment = subscription.subscription.assignment
        self.fetcher: Any = Fetcher(AIOKafkaClient(bootstrap_servers="127.0.0.1:1"), subscription)
        self._consumer: Any = SimpleNamespace(
            _closed=False, _fetcher=self.fetcher, assignment=lambda: set(TPS)
        )
        self.thread: Any = ConsumerThread.__new__(ConsumerThread)
        self.thread.consumer = SimpleNamespace(flow_active=True)
        self.thread._consumer = self._consumer

    async def seek(self) -> None:
        """What a new assignment does: position every partition."""
        await self.thread.seek_all({TP(tp.topic, tp.partition): COMMITTED for tp in TPS})

    def arrive(self) -> None:
        """The answer to a fetch request, as the fetcher's own task would store it."""
        for tp in TPS:
            self.fetcher._records[tp] = FetchResult(
                tp, assignment=self._assignment, partition_records=Rows(tp), backoff=0
            )
        for waiter in list(self.fetcher._fetch_waiters):
            self.fetcher._notify(waiter)

    async def poll(self, timeout_s: float) -> dict[int, list[int]]:
        """Offsets by partition that one poll brings."""
        brought = await self.thread._fetch_records(self._consumer, set(TPS), timeout_s)
        return {tp.partition: [one.offset for one in rows] for tp, rows in brought.items()}

    async def waiting_poll(self) -> asyncio.Task[dict[int, list[int]]]:
        """A poll that found nothing yet and waits."""
        task = asyncio.create_task(self.poll(10))

        async def waits() -> bool:
            return bool(self.fetcher._fetch_waiters)

        await eventually(waits, timeout_s=5, what="the poll waits", every_s=0.001)
        return task


@pytest.fixture
async def polled() -> AsyncIterator[Polled]:
    """A consumer thread with an assignment, positioned."""
    made = Polled()
    await made.seek()
    yield made
    await made.fetcher.close()


ALL = {tp.partition: list(range(COMMITTED, COMMITTED + RECORDS)) for tp in TPS}


async def test_a_poll_brings_what_arrives_while_it_waits(polled: Polled) -> None:
    """Nothing overtook it: the records are its caller's."""
    poll = await polled.waiting_poll()
    polled.arrive()
    assert await poll == ALL


async def test_a_poll_overtaken_by_a_seek_leaves_its_records_to_the_next(polled: Polled) -> None:
    """Its caller drops what it gets; the positions are as if it had taken nothing."""
    poll = await polled.waiting_poll()
    await polled.seek()
    polled.arrive()
    assert await poll == {}
    polled.arrive()
    assert await polled.poll(0) == ALL
