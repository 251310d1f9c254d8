"""Faults `backend_kill` and `backend_terminate`: one worker loses its database connections."""

from __future__ import annotations

import os
import signal

import psutil
import psycopg2

from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.world import World

OF_WORKER = "select pid from pg_stat_activity where application_name = %s order by pid"
SESSION_S = 15.0
END = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"


class BackendTerminate(Fault):
    """pg_terminate_backend of every session of one worker."""

    name = "backend_terminate"
    aims = "a worker"

    def targets(self, world: World) -> list[str]:
        return world.workers()

    def start(self, run: Run) -> None:
        run.notes["pids"] = backends(run)
        run.world.sql(END, run.target)
        run.struck()

    def prove(self, run: Run) -> str:
        old = set(run.notes["pids"])
        seen(
            f"the sessions {sorted(old)} of {run.target} end",
            lambda: (now := sessions(run)) is not None and not old & set(now),
        )
        return f"sessions {sorted(old)} of {run.target} were ended by PostgreSQL"


class BackendKill(Fault):
    """kill -9 of one backend of a worker: PostgreSQL ends all sessions and recovers."""

    name = "backend_kill"
    aims = "a worker"
    needs = "the lab's own PostgreSQL"

    def targets(self, world: World) -> list[str]:
        return world.workers() if world.plan.postgres_kind == "embedded" else []

    def start(self, run: Run) -> None:
        victim = run.notes["pid"] = run.random.choice(backends(run))
        run.notes["others"] = {pid for (pid,) in run.world.sql("select pid from pg_stat_activity")}
        parent = psutil.Process(victim).ppid()
        if parent != run.world.pid("postgres"):
            raise Unproved(f"pid {victim} is no backend of the lab's PostgreSQL")
        os.kill(victim, signal.SIGKILL)
        run.struck()

    def prove(self, run: Run) -> str:
        victim = run.notes["pid"]
        seen(f"backend {victim} is gone", lambda: not psutil.pid_exists(victim), 10)
        seen("every session of before is gone", lambda: self._all_gone(run))
        return f"backend {victim} of {run.target} is gone, and all sessions with it"

    @staticmethod
    def _all_gone(run: Run) -> bool:
        return not any(
            psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
            for pid in run.notes["others"]
        )


def backends(run: Run) -> list[int]:
    """Pids of the worker's sessions; raises Unproved when it has none for a while."""
    return seen(f"a database session of {run.target}", lambda: sessions(run), SESSION_S)


def sessions(run: Run) -> list[int] | None:
    """The same at this moment; None while PostgreSQL is away (another fault's doing)."""
    try:
        return [int(pid) for (pid,) in run.world.sql(OF_WORKER, run.target)]
    except psycopg2.OperationalError:
        return None
