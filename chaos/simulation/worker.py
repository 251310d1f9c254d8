"""One incarnation of one role: what `app.factory` and Faust put together, on the simulated edges."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import faust.stores.memory
from faust.types import TP

from app.db.engine import Database
from app.delivery.events import TickHandler
from app.delivery.killer import Group as RecordGroup
from app.delivery.outputs import Outputs
from app.relay.relay import Relay
from app.roles import role_named
from app.topics import changelog_of
from chaos.simulation.group import HEARTBEAT_S, SimConsumer
from chaos.simulation.log import Producer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from app.delivery.outputs import BatchProducer
    from chaos.simulation.group import Group
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

    async def plan(self, _consumer: str, _message: Any, records: Sequence[Any]) -> list[Any]:
        """One group."""
        return [RecordGroup(records)]

    @asynccontextmanager
    async def watch(self, *_: Any) -> AsyncIterator[None]:
        """Nothing is journaled."""
        yield


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
        self.async_exit_stack = AsyncExitStack()
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

    async def lease(self) -> None:
        """W5 of the consumer."""
        await self.consumer.lease()

    async def sleep(self, duration_s: float) -> None:
        """Faust's sleep, at the pace of the simulation."""
        await asyncio.sleep(max(duration_s, self.look_s))

    def on_epoch(self, epoch: int) -> None:
        """Nothing is measured."""

    def Table(self, name: str, **_: Any) -> SimTable:  # noqa: N802 (Faust's name)
        """Declare a table."""
        changelog = changelog_of(self.settings.namespace, self.role.name, name).name
        self.tables.append(SimTable(name, changelog))
        return self.tables[-1]

    def agent(self, _channel: Any, **_: Any) -> Callable[[Any], Any]:
        """Declare an agent."""
        return self.agents.append  # type: ignore[return-value]

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


class Worker:
    """A process of one role, from its start until it is killed."""

    app: SimApp

    def __init__(self, world: World, role: str, number: int, incarnation: int) -> None:
        self.world = world
        self.role = role
        self.name = f"{role}-{number}"
        self.number = number
        self.incarnation = incarnation
        self.process = world.loop.process(f"{self.name}.{incarnation}")
        self.settings = world.settings_of(role, self.name, str(incarnation))
        self.generation = -1
        self.assigned: set[TP] = set()
        self._heard_at = 0.0
        self._silent_since: float | None = None

    @property
    def group(self) -> Group:
        """The consumer group of its role."""
        return self.world.groups[self.role]

    def start(self) -> None:
        """Start the process."""
        self.world.loop.spawn(self.process, self._main())

    async def _main(self) -> None:
        await self.world.travel("start")
        if self.role == "relay":
            await self._relay()
            return
        self.app = app = SimApp(self)
        app.consumer = SimConsumer(self)
        for module in app.role.modules:
            import_module(module).register(app)
        for runner, agent in zip(app.runners, app.agents, strict=True):
            self._run(agent(Polls(app.consumer, runner.spec.topics)))
            for topic in runner.spec.topics:
                self.world.log.listeners[topic].append(app.consumer.wake)
        ticking = [isinstance(runner.spec.handler, TickHandler) for runner in app.runners]
        app.look_s = TICK_LOOK_S if any(ticking) else SWEEP_LOOK_S
        for task in app.tasks:
            if task.__name__ == "ticks" and app.tables:
                self._run(task())
        self.group.join(self)

    async def _relay(self) -> None:
        db = Database(self.world.db_limits, self.settings.db_pool_max)
        producer = Producer(self.world)
        await Relay(self.settings, db, Outlet(producer), self.world.clock).run()

    def _run(self, coro: Any) -> None:
        task = asyncio.get_running_loop().create_task(coro)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """A task of the product ended although none may: the process is over."""
        if self.process.alive and not task.cancelled():
            self.world.fleet.crashed(self, repr(task.exception()))

    # What the coordinator does with it

    def revoke(self) -> asyncio.Future[Any]:
        """Revoke everything; done when the worker has drained."""
        return self.world.loop.spawn(self.process, self._revoked())

    async def _revoked(self) -> None:
        await self.app.consumer.quiesce()

    def assign(self, generation: int, share: set[TP]) -> None:
        """Hand out partitions: recover tables, seek, go."""
        self.world.loop.spawn(self.process, self._assigned(generation, share))

    async def _assigned(self, generation: int, share: set[TP]) -> None:
        self.generation, self.assigned = generation, share
        await self.world.travel("log")
        if self.generation != generation:
            return
        for table in self.app.tables:
            table.recover(self.world, {tp.partition for tp in share})
        await self.app.consumer.perform_seek()
        if self.generation == generation and self.group.generation == generation:
            self.app.consumer.release()

    # Heartbeats

    def heard_at(self) -> float:
        """When the coordinator last accepted a heartbeat."""
        if self in self.group.members and self._silent_since is None and not self.world.log.down:
            self._heard_at = self.world.loop.time()
        return self._heard_at

    def fall_silent(self) -> None:
        """No heartbeat leaves from now on."""
        self.heard_at()
        self._silent_since = self.world.loop.time()

    def speak_again(self) -> None:
        """The next heartbeat leaves soon."""
        self.world.loop.later(HEARTBEAT_S, self._spoken)

    def _spoken(self) -> None:
        self._silent_since = None


class Outlet:
    """The relay's way out."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def open(self) -> Any:
        """Return the way out of one round."""
        return Outputs(self._producer)

    async def reset(self) -> None:
        """There is always a producer."""
