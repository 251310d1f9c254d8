"""Fault `storm`: workers keep joining and leaving a group, so it rebalances again and again."""

from __future__ import annotations

import contextlib
import threading
import time

from app.roles import ROLES
from chaos.lab.process import LabError
from chaos.ledger.group import GroupWatch
from chaos.nemesis.faults.fault import Fault, Run, seen
from chaos.nemesis.world import World

GENERATIONS_MIN = 2


class Storm(Fault):
    """A worker joins and leaves a role's group, again and again."""

    name = "storm"
    aims = "a consuming role"
    needs = "fewer workers than partitions"
    for_s = 15.0
    recovers_from = "end"

    def targets(self, world: World) -> list[str]:
        return [role for role in world.roles() if ROLES[role].consumes]

    def unavailable(self, world: World, target: str) -> str:
        if len(world.workers(target)) >= world.plan.topic_partitions:
            return f"{target} has a worker for every partition: one more would get none"
        return ""

    def start(self, run: Run) -> None:
        count = len(run.world.workers(run.target))
        watch = run.notes["watch"] = GroupWatch(run.world.bootstrap, run.world.group(run.target))
        watch.start()
        seen("the group", lambda: watch.number > 0, 20)
        run.notes["before"] = watch.number
        ended = run.notes["ended"] = threading.Event()
        run.undo("scale", role=run.target, count=count)
        storm = run.notes["thread"] = threading.Thread(
            target=_storm, args=(run, count, ended), name="storm", daemon=True
        )
        storm.start()

    def prove(self, run: Run) -> str:
        watch, before = run.notes["watch"], run.notes["before"]
        seen(
            f"{GENERATIONS_MIN} new generations of {run.target}",
            lambda: watch.number >= before + GENERATIONS_MIN,
        )
        return f"generation {before} became {watch.number}"

    def halt(self, run: Run) -> None:
        if "thread" in run.notes:
            run.notes["ended"].set()
            run.notes["thread"].join(60)
        elif "watch" in run.notes:
            run.notes["watch"].close()

    def after(self, run: Run) -> str:
        watch: GroupWatch = run.notes["watch"]
        said = f"{watch.number - run.notes['before']} generations in all"
        watch.close()
        return said


def _storm(run: Run, count: int, ended: threading.Event) -> None:
    """Scale up and down until the fault is over or its owner is gone."""
    while not ended.is_set() and time.time() < run.until_s:
        for wanted in (count + 1, count):
            with contextlib.suppress(LabError):  # something else is broken too
                run.world.lab.scale(run.target, wanted)
