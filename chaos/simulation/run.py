"""One run: build the world of a plan, let it happen, let it come to rest, judge it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.engine import Database
from app.messages import deadletter
from app.topics import DEAD_LETTER_TOPICS
from chaos.simulation import checks, plants, rest
from chaos.simulation.client import Customer, stock_up
from chaos.simulation.environment import installed
from chaos.simulation.fleet import Fleet
from chaos.simulation.log import Sent
from chaos.simulation.loop import Livelock
from chaos.simulation.nemesis import Nemesis
from chaos.simulation.world import World

if TYPE_CHECKING:
    from datetime import datetime

    from chaos.simulation.plan import Plan

REST_S = 60.0
"""Virtual time after the last fault within which everything must have come to rest."""
LOOK_S = 1.0
QUIET_S = 2.0
REDRIVES_MAX = 5


class Result(NamedTuple):
    """What became of a run. `violations` is empty when every promise was kept."""

    plan: Plan
    violations: tuple[str, ...]
    trace_hash: str
    endings: tuple[str, ...]
    virtual_s: float
    steps: int
    trace: tuple[tuple[Any, ...], ...]


def simulate(plan: Plan) -> Result:
    """Run a plan; the same plan gives the same result, in any process.

    What goes wrong in the product is a violation; only a defect of the simulation itself raises.
    """
    world = World(plan)
    with installed(world), plants.planted(plan.plant):
        try:
            world.loop.run(_story(world))
        except Livelock as error:
            world.violations.append(f"liveness: {error}")
        finally:
            world.loop.close()
    found = [*world.violations, *(f"callback: {one}" for one in world.loop.problems)]
    return Result(
        plan=plan,
        violations=tuple(dict.fromkeys(found)),
        trace_hash=world.trace_hash(),
        endings=rest.endings(world),
        virtual_s=world.loop.time(),
        steps=world.loop.steps,
        trace=tuple(world.trace),
    )


async def _story(world: World) -> None:
    plan = world.plan
    random = Random(plan.seed * 17 + 3)
    stock_up(world, random)
    rest.watch(world)
    world.fleet = Fleet(world, plan.workers)
    db = Database(world.db_limits, 100)
    seeds = [random.getrandbits(60) for _ in range(plan.orders)]
    customers = [Customer(world, db, n, Random(seed)) for n, seed in enumerate(seeds)]
    nemesis = Nemesis(world)
    nemesis.start()
    for customer in customers:
        customer.start()
    await asyncio.sleep(plan.until_s)
    world.note("faults end")
    nemesis.end()
    unrest = await _come_to_rest(world, customers)
    if unrest:
        world.violations.append(f"liveness: {unrest} after {REST_S:g} s without faults")
    world.violations += checks.judge(world, customers)


async def _come_to_rest(world: World, customers: list[Customer]) -> str:
    """Wait until nothing is left to do; return what is, when the time is over."""
    deadline = world.loop.time() + REST_S
    operator = Operator(world) if world.plan.operator else None
    while True:
        await asyncio.sleep(LOOK_S)
        if operator is not None:
            operator.look()
        world.violations += rest.alarms(world)
        if world.violations:
            return ""
        unrest = rest.unrest(world, customers)
        if not unrest:
            await asyncio.sleep(QUIET_S)
            unrest = rest.unrest(world, customers)
        if not unrest or world.loop.time() > deadline:
            return unrest


class Operator:
    """Sends dead letters back, each event at most REDRIVES_MAX times."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[tuple[str, int], int] = {}

    def look(self) -> None:
        """Redrive what is new."""
        for topic in DEAD_LETTER_TOPICS:
            if self._world.log.has(topic):
                for partition, records in enumerate(self._world.log.topics[topic]):
                    first = self._seen.get((topic, partition), 0)
                    self._seen[topic, partition] = len(records)
                    for record in records[first:]:
                        if deadletter.read_failure(record.headers).redrives < REDRIVES_MAX:
                            self._redrive(record, self._world.clock.now())

    def _redrive(self, record: Any, now: datetime) -> None:
        output = deadletter.redrive(record, not_after=now + timedelta(seconds=60))
        partition = record.partition if output.partition is None else output.partition
        sent = Sent(output.key, output.value, output.headers)
        self._world.note("redrive", output.topic, output.key)
        self._world.log.append(output.topic, partition, sent)
