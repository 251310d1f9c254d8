"""Facts about control topics on a real broker: whole, live, acknowledged; without Kafka too."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.control.board import Board
from app.control.publisher import Publisher
from app.errors import BrokerOutage
from app.settings import Settings, load_settings
from app.topics import CHAOS_ACKS, CHAOS_RULES, TopicSpec
from chaos.lab.broker import Broker
from chaos.lab.process import free_port
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

WAIT_S = 30


class Seen:
    """What a board applied, in order; refuses the values it is told to."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.versions: list[int] = []
        self.refuse = b""

    def apply(self, key: str, value: bytes | None, version: int) -> str:
        """Keep the value, or forget it."""
        self.versions.append(version)
        if value is None:
            self.values.pop(key, None)
            return ""
        self.values[key] = value
        if value == b"raise":
            raise ValueError("cannot be applied")
        return "refused" if value == self.refuse else ""


@pytest.fixture
async def topics(broker: Broker) -> tuple[TopicSpec, TopicSpec]:
    """A control topic and its acknowledgements, of this test alone."""
    name = f"control-{uuid.uuid4().hex[:8]}"
    rules = CHAOS_RULES._replace(name=name)
    acks = CHAOS_ACKS._replace(name=f"{name}.acks")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(spec.name, 1, 1, topic_configs=spec.config()) for spec in (rules, acks)]
        )
    finally:
        await admin.close()
    return rules, acks


def settings_of(broker: str, worker: str, **changes: Any) -> Settings:
    """A worker's settings, quick to repeat itself."""
    values = {"control_heartbeat_s": 0.5, "control_timeout_s": 10.0, **changes}
    return load_settings(role="payment", worker_id=worker, broker_bootstrap=broker, **values)


@asynccontextmanager
async def board(
    settings: Settings, topics: tuple[TopicSpec, TopicSpec]
) -> AsyncIterator[tuple[Board, Seen]]:
    """A running board."""
    seen = Seen()
    one = Board(
        settings,
        topic=topics[0],
        acks=topics[1],
        apply=seen.apply,
        note=lambda: {"keys": sorted(seen.values)},
    )
    await one.on_start()
    try:
        yield one, seen
    finally:
        await one.on_stop()


@asynccontextmanager
async def publisher(
    settings: Settings, topics: tuple[TopicSpec, TopicSpec]
) -> AsyncIterator[Publisher]:
    """A publisher that is closed in the end."""
    one = Publisher(settings, topic=topics[0], acks=topics[1])
    try:
        yield one
    finally:
        await one.close()


async def test_every_worker_has_a_change_when_it_says_so(
    broker: Broker, topics: tuple[TopicSpec, TopicSpec]
) -> None:
    """A late worker reads what stood there; changes, deletions and refusals are acknowledged."""
    first, second = (settings_of(broker.bootstrap, name) for name in ("payment-1", "payment-2"))
    both = ("payment-1", "payment-2")
    async with publisher(first, topics) as control, board(first, topics) as (_, early):
        version = await control.publish("a", b"1")
        told = await control.await_acks(version, both, 1.0)
        assert told.pending == ("payment-2",)
        async with board(second, topics) as (_, late):
            assert (await control.await_acks(version, both, WAIT_S)).complete
            assert early.values == late.values == {"a": b"1"}
            late.refuse = b"2"
            version = await control.publish("a", b"2")
            assert (await control.await_acks(version, both, WAIT_S)).complete
            heard = control.heard()
            assert heard["payment-2"].refused == {"a": "refused"}
            assert heard["payment-1"].refused == {}
            assert heard["payment-1"].note == {"keys": ["a"]}
            version = await control.publish("a", None)
            assert (await control.await_acks(version, both, WAIT_S)).complete
            assert early.values == late.values == {}
            assert control.heard()["payment-2"].refused == {}
            assert early.versions == sorted(early.versions)


async def test_a_value_that_raises_is_refused_and_the_next_is_applied(
    broker: Broker, topics: tuple[TopicSpec, TopicSpec]
) -> None:
    """Nothing that stands in the topic ends the board."""
    settings = settings_of(broker.bootstrap, "payment-1")
    async with publisher(settings, topics) as control, board(settings, topics) as (_, seen):
        await control.publish("bad", b"raise")
        version = await control.publish("good", b"1")
        assert (await control.await_acks(version, ["payment-1"], WAIT_S)).complete
        assert seen.values["good"] == b"1"
        assert "cannot be applied" in control.heard()["payment-1"].refused["bad"]


async def test_a_worker_that_is_gone_is_not_heard_any_more(
    broker: Broker, topics: tuple[TopicSpec, TopicSpec]
) -> None:
    """What was said long ago is no answer."""
    settings = settings_of(broker.bootstrap, "payment-1")
    async with publisher(settings, topics) as control:
        async with board(settings, topics):
            version = await control.publish("a", b"1")
            assert (await control.await_acks(version, ["payment-1"], WAIT_S)).complete
            assert "payment-1" in control.heard()

        async def silent() -> bool:
            return "payment-1" not in control.heard()

        await eventually(silent, timeout_s=WAIT_S, what="a silent worker is forgotten")


async def test_without_kafka_a_publisher_says_so_and_a_board_waits() -> None:
    """A worker starts, works and stops; a change is refused in time, not kept for later."""
    nowhere = f"127.0.0.1:{free_port()}"
    settings = settings_of(nowhere, "payment-1", control_timeout_s=1.0)
    topics = (CHAOS_RULES, CHAOS_ACKS)
    async with board(settings, topics) as (waiting, seen), publisher(settings, topics) as control:
        with pytest.raises(BrokerOutage, match="did not take"):
            async with asyncio.timeout(WAIT_S):
                await control.publish("a", b"1")
        assert not waiting.caught_up.is_set()
        assert seen.versions == []
        assert not await waiting.publish("x", b"k", b"v", [])
