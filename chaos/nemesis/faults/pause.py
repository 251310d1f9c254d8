"""Fault `pause`: SIGSTOP, later SIGCONT; PostgreSQL with all its backends."""

from __future__ import annotations

import os
import signal

import psutil

from chaos.lab.process import ProcessRecord
from chaos.nemesis.faults.fault import Fault, Run, seen
from chaos.nemesis.world import World


class Pause(Fault):
    """A process is frozen and goes on later as if nothing had been."""

    name = "pause"
    aims = "a worker, broker, postgres, gateway-sim"
    for_s = 5.0
    recovers_from = "end"

    def targets(self, world: World) -> list[str]:
        return [*world.workers(), *world.parts()]

    def start(self, run: Run) -> None:
        tree = run.world.tree(run.target)
        run.notes["tree"] = tree
        processes = [(one.pid, one.started_at) for one in tree]
        run.undo("wake", part=run.target, processes=processes)
        run.world.lab.pause(run.target)
        for child in tree[1:]:
            if child.alive():
                os.kill(child.pid, signal.SIGSTOP)

    def prove(self, run: Run) -> str:
        tree: list[ProcessRecord] = run.notes["tree"]
        stopped = [one.pid for one in tree if one.alive()]
        seen(f"{stopped} in state T", lambda: all(map(is_stopped, stopped)), 10)
        return f"{len(stopped)} processes of {run.target} in state T: {stopped[:8]}"


def is_stopped(pid: int) -> bool:
    """Whether a process is in state T, or has ended meanwhile."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return True
