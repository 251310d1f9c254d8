"""A client that was told of no broker asks until it knows one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata

from app.delivery import aiokafka_seams as seams

pytestmark = pytest.mark.unit


class Client:
    """Its broker answers without brokers so often, then with itself."""

    def __init__(self, empty_answers: int) -> None:
        self.cluster = ClusterMetadata()
        self.asked, self._empty_answers = 0, empty_answers

    async def force_metadata_update(self) -> bool:
        self.asked += 1
        if self.asked > self._empty_answers:
            self.cluster.update_metadata(
                SimpleNamespace(API_VERSION=0, brokers=[(1, "127.0.0.1", 9092)], topics=[])
            )
        return True


async def test_it_asks_until_a_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that aiokafka has no node to look its coordinator up at."""
    monkeypatch.setattr(seams, "METADATA_RETRY_S", 0.0)
    client: Any = Client(empty_answers=2)
    assert AIOKafkaClient.get_random_node(client) is None
    await seams.know_brokers(SimpleNamespace(_client=client))
    assert client.asked == 3
    assert AIOKafkaClient.get_random_node(client) == 1


async def test_a_known_broker_is_not_asked_for() -> None:
    """The usual start costs nothing."""
    client: Any = Client(empty_answers=0)
    await client.force_metadata_update()
    await seams.know_brokers(SimpleNamespace(_client=client))
    assert client.asked == 1
