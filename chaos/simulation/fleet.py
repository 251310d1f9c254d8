"""The workers and who looks after them: starts, kills, suspends and replaces them.

As the lab's supervisor does, a dead worker is evicted from its group and started anew; a suspended
one is expelled by the broker when its session is over, and ends when it learns of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from app.delivery.exits import Reason
from chaos.simulation.group import Group
from chaos.simulation.process import Process, WorkerEnded, current
from chaos.simulation.worker import Worker

if TYPE_CHECKING:
    from chaos.simulation.world import World

CONSUMING = ("orchestrator", "payment", "inventory", "shipping", "dlq")
IDLE_IN_TRANSACTION_S = 5.0
LEARNS_S = 2.0
"""A zombie that goes on hears within this time that it is no member any more."""
RESTARTS_MAX = 200


class Fleet:
    """All workers of one world."""

    def __init__(self, world: World, workers: int) -> None:
        self._world = world
        self.workers: dict[tuple[str, int], Worker] = {}
        self._of: dict[Process, Worker] = {}
        self._starts = 0
        for role in CONSUMING:
            world.groups[role] = Group(world, role)
        for role in (*CONSUMING, "relay"):
            for number in range(1, workers + 1):
                self._start(role, number, 1)

    def worker_of(self, process: Process) -> Worker | None:
        """The worker that lives in a process; None for client and kernel."""
        return self._of.get(process)

    def _start(self, role: str, number: int, incarnation: int) -> None:
        self._starts += 1
        if self._starts > RESTARTS_MAX:
            self._world.violations.append(f"more than {RESTARTS_MAX} starts of workers")
            return
        worker = Worker(self._world, role, number, incarnation)
        self.workers[role, number] = worker
        self._of[worker.process] = worker
        self._world.note("start", worker.name, incarnation)
        worker.start()

    def kill(self, worker: Worker, why: str) -> None:
        """kill -9; a new incarnation follows."""
        if not worker.process.alive:
            return
        world = self._world
        world.note("end", worker.name, worker.incarnation, why)
        world.loop.kill(worker.process)
        world.database.disconnect(worker.process)
        for listeners in world.log.listeners.values():
            listeners[:] = [one for one in listeners if _owner(one) is not worker]
        world.loop.later(world.delay("start") * 3, self._replace, worker)

    def _replace(self, dead: Worker) -> None:
        if dead.role in self._world.groups:
            dead.group.expel(dead)
        self._start(dead.role, dead.number, dead.incarnation + 1)

    def freeze(self, worker: Worker, duration_s: float) -> None:
        """SIGSTOP, and SIGCONT after `duration_s`."""
        if not worker.process.alive or worker.process.frozen:
            return
        loop = self._world.loop
        self._world.note("freeze", worker.name, worker.incarnation, duration_s)
        if worker.role in self._world.groups:
            worker.fall_silent()
        loop.freeze(worker.process)
        loop.later(IDLE_IN_TRANSACTION_S, self._end_transactions, worker)
        loop.later(self._world.settings.session_timeout_s, self._end_session, worker)
        loop.later(duration_s, self.thaw, worker)

    def _end_transactions(self, worker: Worker) -> None:
        if worker.process.frozen:
            self._world.database.disconnect(worker.process)

    def _end_session(self, worker: Worker) -> None:
        if worker.process.frozen and worker.role in self._world.groups:
            worker.group.expel(worker)

    def thaw(self, worker: Worker) -> None:
        """Let a suspended worker go on; one that is no member any more learns of it and ends."""
        if not worker.process.alive or not worker.process.frozen:
            return
        self._world.note("thaw", worker.name, worker.incarnation)
        self._world.loop.thaw(worker.process)
        if worker.role not in self._world.groups:
            return
        worker.speak_again()
        if worker not in worker.group.members:
            self._world.loop.later(LEARNS_S, self.kill, worker, "expelled from its group")

    def crashed(self, worker: Worker, error: str) -> None:
        """A task of the product ended by an error: never expected."""
        self._world.violations.append(f"{worker.name} died of {error}")
        self.kill(worker, error)

    def end_process(self, reason: Reason, why: str) -> NoReturn:
        """In place of `app.delivery.exits.end_process`: the running process ends here."""
        process = current()
        worker = self.worker_of(process)
        if worker is not None and process.alive:
            if reason is Reason.FAILURE:
                self._world.violations.append(f"{worker.name} ended itself: {why}")
            self.kill(worker, f"{reason}: {why}")
        raise WorkerEnded(why)


def _owner(listener: object) -> object:
    return getattr(getattr(listener, "__self__", None), "_worker", None)
