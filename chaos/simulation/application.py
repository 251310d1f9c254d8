"""What `app.delivery.app.App` and Faust are to a role, on the simulated edges."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import faust.stores.memory

from app.db.engine import Database
from app.delivery.killer import Group as RecordGroup
from app.roles import role_named
from app.taps import Taps
from app.topics import changelog_of
from chaos.simulation.log import Producer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from app.delivery.outputs import BatchProducer
    from chaos.simulation.group import SimConsumer
    from chaos.simulation.worker import Worker
    from chaos.simulation.world import World

TICK_LOOK_S = 1.0
SWEEP_LOOK_S = 10.0
"""How often a worker looks whether a tick is due, and one without timers whether entries leave its
idempotency table; the product's 0.2 s would cost more than they find."""


class MemoryStore(faust.stores.memory.Store):
    """Faust's own memory store, without an application."""

    def __init__(self) -> None:  # the parents' want an application
        self.data: dict[bytes, bytes] = {}
        self._key_partition: dict[bytes, int] = {}


class SimTable:
    """A changelog-backed table."""

    def __init__(self, name: str, changelog: str) -> None:
        self.name = name
        self.changelog = changelog
        self.changelog_topic = SimpleNamespace(get_topic_name=lambda: changelog)
        self.data = MemoryStore()

    def recover(self, world: World, partitions: set[int]) -> None:
        """Rebuild the store from the changelog, or from what a fault leaves of it."""
        self.data.data.clear()
        self.data._key_partition.clear()
        for partition in sorted(partitions):
            records = world.log.topics[self.changelog][partition]
            for record in records[: world.faults.recovered_records(len(records))]:
                if record.value is None:
                    self.data.data.pop(record.key, None)
                else:
                    self.data.data[record.key] = record.value
                    self.data._key_partition[record.key] = partition


class NoJournal:
    """In place of the killer journal: no record of a simulation ends its process."""

    async def prepare(self, *_: Any) -> None:
        """There are no suspects."""

    async def plan(self, _consumer: str, records: Sequence[Any]) -> list[Any]:
        """One group."""
        return [RecordGroup(records)]

    @asynccontextmanager
    async def watch(self, *_: Any) -> AsyncIterator[None]:
        """Nothing is journaled."""
        yield


class NoFloods:
    """In place of ops.flood: a simulated consumer makes fewer dead letters than stop it."""

    async def find(self, consumer: str) -> None:
        """It is not stopped."""

    async def open(self, consumer: str, dead_letters: int, detail: str) -> None:
        """Nobody could release it."""
        raise AssertionError(f"{consumer} made {dead_letters} dead letters: {detail}")


class SimApp:
    """What a role's code and the delivery core use of `app.delivery.app.App`."""

    rebalancing = False
    should_stop = False
    look_s = TICK_LOOK_S

    def __init__(self, worker: Worker) -> None:
        world = worker.world
        self._worker = worker
        self.settings = worker.settings
        self.role = role_named(worker.role)
        self.clock = world.clock
        self.killer = NoJournal()
        self.floods = NoFloods()
        self.async_exit_stack = AsyncExitStack()
        self.taps = Taps()
        self.batch_topics: set[str] = set()
        self.runners: list[Any] = []
        self.tables: list[SimTable] = []
        self.agents: list[Callable[[Any], Any]] = []
        self.tasks: list[Callable[[], Any]] = []
        self.monitor = SimpleNamespace(
            track_tp_end_offset=lambda *_: None,
            on_tp_commit=lambda *_: None,
            stream_inbound_time={},
        )
        self.batch_producer: BatchProducer = Producer(world)
        self.db = Database(world.db_limits, self.settings.db_pool_max)
        self.consumer: SimConsumer

    def service(self, _service: Any) -> None:
        """Only agents are simulated: no operator asks for jobs here, no control topic is set."""

    async def lease(self) -> None:
        """W5 of the consumer."""
        await self.consumer.lease()

    async def sleep(self, duration_s: float) -> None:
        """Faust's sleep, at the pace of the simulation."""
        await asyncio.sleep(max(duration_s, self.look_s))

    def on_epoch(self) -> None:
        """Nothing is measured."""

    def Table(self, name: str, **_: Any) -> SimTable:  # noqa: N802 (Faust's name)
        """Declare a table."""
        changelog = changelog_of(self.settings.namespace, self.role.name, name).name
        self.tables.append(SimTable(name, changelog))
        return self.tables[-1]

    def agent(self, _channel: Any, **_: Any) -> Callable[[Any], Any]:
        """Declare an agent."""
        return self.agents.append

    def task(self, function: Callable[[], Any]) -> None:
        """Declare a background task."""
        self.tasks.append(function)


class Polls:
    """A stream of polls, as an agent's body reads it."""

    def __init__(self, consumer: SimConsumer, topics: Sequence[str]) -> None:
        self._consumer, self._topics = consumer, topics

    def noack(self) -> Polls:
        """The core acknowledges by its watermark."""
        return self

    async def events(self) -> AsyncIterator[Any]:
        """One event per poll, for ever."""
        while True:
            message = await self._consumer.poll(self._topics)
            yield SimpleNamespace(message=message, ack=lambda: None)
