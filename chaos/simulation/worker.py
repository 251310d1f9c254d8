"""One incarnation of one role: its application, its place in the group, its heartbeats."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from app.db.engine import Database
from app.delivery.events import TickHandler
from app.delivery.outputs import Outputs
from app.relay.relay import Relay
from chaos.simulation.application import SWEEP_LOOK_S, TICK_LOOK_S, Polls, SimApp
from chaos.simulation.group import HEARTBEAT_S, SimConsumer
from chaos.simulation.log import Producer

if TYPE_CHECKING:
    from faust.types import TP

    from chaos.simulation.group import Group
    from chaos.simulation.world import World


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
        self.app.consumer.begin_assignment()
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

    async def close(self) -> None:
        """It is not let go."""
