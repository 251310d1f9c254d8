"""Whatever strikes at a time of its own: kills, suspensions, rebalances, outages, gateway moods."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from chaos.gateway_sim.provider import Behaviour, Mode

if TYPE_CHECKING:
    from chaos.simulation.process import Process
    from chaos.simulation.world import World

STEPS_BETWEEN_STRIKES = 250
"""Callbacks of workers between two strikes, on average."""
_FREEZES_S = (0.3, 2.0, 6.0, 11.0, 14.0)


class Nemesis:
    """Runs in the kernel until the plan's faults end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._calm: Behaviour = world.gateway.provider.behaviour

    def start(self) -> None:
        """Arm everything that the plan names."""
        world, faults = self._world, self._world.faults
        world.loop.strike = self._strike
        if faults.has("kill") or faults.has("freeze"):
            self._arm()
        if faults.has("rebalance"):
            self._spawn(self._rebalances())
        if faults.has("database-outage"):
            self._spawn(self._database_outages())
        if faults.has("broker-outage"):
            self._spawn(self._broker_outages())
        if faults.has("gateway-error"):
            self._mood(error_rate=0.6)
        if faults.has("gateway-lost-reply"):
            self._mood(reply_lost_rate=0.4)
        if faults.has("gateway-timeout"):
            self._spawn(self._gateway_silences())

    def end(self) -> None:
        """Everything is healed: servers up, the suspended go on, the gateway is friendly."""
        world = self._world
        world.faults.end()
        world.loop.strike_in = 1 << 60
        world.database.start()
        world.log.down = False
        world.wake_all()
        self._hear(self._calm)
        for worker in list(world.fleet.workers.values()):
            world.fleet.thaw(worker)

    def _spawn(self, coro: object) -> None:
        self._world.loop.spawn(self._world.loop.kernel, coro)  # type: ignore[arg-type]

    def _arm(self) -> None:
        kind = "kill" if self._world.faults.has("kill") else "freeze"
        draw = self._world.faults.random(kind).random
        self._world.loop.strike_in = 1 + int(draw() * 2 * STEPS_BETWEEN_STRIKES)

    def _strike(self, process: Process) -> None:
        """The callback budget is spent: whoever ran last is struck."""
        world, faults = self._world, self._world.faults
        worker = world.fleet.worker_of(process)
        if not (faults.has("kill") or faults.has("freeze")):
            return
        self._arm()
        if worker is None:
            return
        both = faults.has("kill") and faults.has("freeze")
        if faults.has("kill") and not (both and faults.random("freeze").random() < 0.5):
            world.fleet.kill(worker, "killed")
        else:
            world.fleet.freeze(worker, faults.random("freeze").choice(_FREEZES_S))

    async def _rebalances(self) -> None:
        world, random = self._world, self._world.faults.random("rebalance")
        while world.faults.has("rebalance"):
            await asyncio.sleep(random.uniform(0.2, 5.0))
            role = random.choice(list(world.groups))
            world.groups[role].rebalance()

    async def _database_outages(self) -> None:
        world, random = self._world, self._world.faults.random("database-outage")
        while world.faults.has("database-outage"):
            await asyncio.sleep(random.uniform(0.5, 8.0))
            if world.faults.has("database-outage"):
                world.note("database", "down")
                world.database.stop()
                await asyncio.sleep(random.uniform(0.1, 4.0))
                world.note("database", "up")
                world.database.start()

    async def _broker_outages(self) -> None:
        world, random = self._world, self._world.faults.random("broker-outage")
        while world.faults.has("broker-outage"):
            await asyncio.sleep(random.uniform(1.0, 8.0))
            if world.faults.has("broker-outage"):
                world.note("broker", "down")
                world.log.down = True
                await asyncio.sleep(random.choice((0.5, 3.0, 12.0)))
                world.note("broker", "up")
                world.log.down = False
                world.wake_all()

    async def _gateway_silences(self) -> None:
        world, random = self._world, self._world.faults.random("gateway-timeout")
        while world.faults.has("gateway-timeout"):
            await asyncio.sleep(random.uniform(0.5, 6.0))
            if world.faults.has("gateway-timeout"):
                self._mood(mode=Mode.TIMEOUT, hang_s=3.0)
                await asyncio.sleep(random.uniform(0.5, 5.0))
                self._mood(mode=Mode.SUCCESS)

    def _mood(self, **changes: object) -> None:
        behaviour = self._world.gateway.provider.behaviour
        self._hear(msgspec.structs.replace(behaviour, **changes))

    def _hear(self, behaviour: Behaviour) -> None:
        self._world.note("gateway", behaviour.mode.value)
        self._world.gateway.behave(behaviour)
