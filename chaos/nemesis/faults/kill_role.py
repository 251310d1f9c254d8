"""Fault `kill_role`: kill -9 of every worker of a role at once."""

from __future__ import annotations

from chaos.nemesis.faults.fault import Fault, Run
from chaos.nemesis.faults.successor import note, succeeded
from chaos.nemesis.world import World


class KillRole(Fault):
    """SIGKILL of all workers of a role within milliseconds."""

    name = "kill_role"
    aims = "a role"

    def targets(self, world: World) -> list[str]:
        return world.roles()

    def start(self, run: Run) -> None:
        victims = run.notes["victims"] = run.world.workers(run.target)
        for victim in victims:
            note(run, victim)
        for victim in victims:
            run.world.lab.kill(victim, "KILL")
        run.struck()

    def prove(self, run: Run) -> str:
        return "; ".join(f"{one}: {succeeded(run, one)}" for one in run.notes["victims"])
