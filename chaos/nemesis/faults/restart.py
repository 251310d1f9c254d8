"""Faults `restart` and `restart_immediate`: a stop in good order or at once, down, up again."""

from __future__ import annotations

from typing import ClassVar

from chaos.lab.parts import StopMode
from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.faults.successor import gone, note
from chaos.nemesis.world import World


class Restart(Fault):
    """A process is stopped in good order, stays away for a while, and is started again."""

    name = "restart"
    aims = "a worker, broker, postgres, gateway-sim"
    for_s = 2.0
    recovers_from = "end"
    mode: ClassVar[StopMode] = "fast"

    def targets(self, world: World) -> list[str]:
        return [*world.workers(), *world.parts()]

    def start(self, run: Run) -> None:
        note(run, run.target)
        run.undo("start", part=run.target)
        run.world.lab.stop(run.target, mode=self.mode)

    def prove(self, run: Run) -> str:
        evidence = gone(run, run.target)
        state = run.world.lab.process(run.target)["state"]
        if state != "stopped":
            raise Unproved(f"{run.target} is {state}")
        return f"{evidence}, stopped ({self.mode})"

    def after(self, run: Run) -> str:
        seen(
            f"{run.target} serves again",
            lambda: run.world.lab.process(run.target)["state"] == "ready",
        )
        return f"pid {run.world.pid(run.target)} serves"


class RestartImmediate(Restart):
    """PostgreSQL is stopped without a checkpoint (immediate) and recovers from its log."""

    name = "restart_immediate"
    aims = "postgres"
    needs = "the lab's own PostgreSQL"
    mode = "immediate"

    def targets(self, world: World) -> list[str]:
        return [one for one in world.parts() if one == "postgres"]
