"""Fault `terminate`: SIGTERM that nobody announced to the supervisor."""

from __future__ import annotations

from chaos.nemesis.faults.fault import Fault, Run
from chaos.nemesis.faults.successor import note, succeeded
from chaos.nemesis.world import World


class Terminate(Fault):
    """SIGTERM of a worker, the broker or the gateway: it ends in good order, another starts."""

    name = "terminate"
    aims = "a worker, broker, gateway-sim"

    def targets(self, world: World) -> list[str]:
        return [*world.workers(), *(one for one in world.parts() if one != "postgres")]

    def start(self, run: Run) -> None:
        note(run, run.target)
        run.world.lab.kill(run.target, "TERM")
        run.struck()

    def prove(self, run: Run) -> str:
        return succeeded(run, run.target)
