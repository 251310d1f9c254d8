"""Partitions with a backlog take turns in the polls; aiokafka's own fetcher, no broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.structs import TopicPartition

from app.delivery.aiokafka_seams import take_turns

pytestmark = pytest.mark.unit

POLL = 200
BACKLOG = 3_000
TPS = [TopicPartition("in", number) for number in range(4)]


class Rows:
    """Unpacked records of one partition, as FetchResult reads them."""

    def __init__(self, count: int) -> None:
        self.next_fetch_offset, self._count = 0, count

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.next_fetch_offset == self._count:
            raise StopIteration
        self.next_fetch_offset += 1
        return self.next_fetch_offset - 1


async def polls(count: int, *, in_turns: bool) -> Counter[int]:
    """How many records of each partition `count` polls bring when all have a backlog."""
    subscription = SubscriptionState()
    subscription.assign_from_user(TPS)
    assignment = subscription.subscription.assignment
    fetcher: Any = Fetcher(AIOKafkaClient(bootstrap_servers="127.0.0.1:1"), subscription)
    try:
        for tp in TPS:
            assignment.state_value(tp).reset_to(0)
            fetcher._records[tp] = FetchResult(
                tp, assignment=assignment, partition_records=Rows(BACKLOG), backoff=0
            )
        brought: Counter[int] = Counter()
        for _ in range(count):
            records = await fetcher.fetched_records(TPS, max_records=POLL)
            brought.update({tp.partition: len(rows) for tp, rows in records.items()})
            if in_turns:
                take_turns(SimpleNamespace(_fetcher=fetcher), records)
        return brought
    finally:
        await fetcher.close()


async def test_every_partition_is_served_in_as_many_polls_as_there_are() -> None:
    """Four polls, four partitions: a full poll of each, none stands still."""
    assert await polls(len(TPS), in_turns=True) == dict.fromkeys(range(4), POLL)


async def test_aiokafka_alone_empties_one_partition_first() -> None:
    """The reason for the override; when this fails, aiokafka takes turns itself: drop ours."""
    assert await polls(len(TPS), in_turns=False) == {0: POLL * len(TPS)}
