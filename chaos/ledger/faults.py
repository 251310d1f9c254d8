"""Faults of the rebalance ledger; each one proves that it happened.

A fault returns a `Proof` that names what was observed outside the workers: the group log, the
process table, a broker that does not answer. A proof that does not hold makes the round void.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chaos.ledger.topic import reachable

if TYPE_CHECKING:
    from chaos.ledger.group import Generation, Member
    from chaos.ledger.trial import Trial

UNREACHABLE_S = 2.0
PAUSE_S = 8.0
BACK_S = 60.0


class Proof(NamedTuple):
    """What a fault did: `holds` only when its effect was observed."""

    fault: str
    target: str
    holds: bool
    facts: str
    healed_at_s: float


class PausableBroker(Protocol):
    """The part of the laboratory's broker that faults need."""

    @property
    def bootstrap(self) -> str:
        """HOST:PORT for clients, the same over restarts."""

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""

    def start(self) -> None:
        """Start and wait until ready."""

    def kill(self) -> None:
        """kill -9 and reap."""

    def pause(self) -> None:
        """SIGSTOP."""

    def resume(self) -> None:
        """SIGCONT."""


def join(trial: Trial, worker: str) -> Proof:
    """Start a worker; it must own partitions in a later generation."""
    before = trial.watch.number
    trial.fleet.start(worker)

    def owns(generation: Generation) -> bool:
        members = generation.of_client(trial.fleet.client_id(worker))
        return generation.number > before and any(m.assignment for m in members)

    holds = trial.watch.wait(owns, trial.limits.recovery_s)
    return Proof("join", worker, holds, _generations(trial, before), monotonic())


def leave(trial: Trial, worker: str) -> Proof:
    """SIGTERM a worker; its process must end and the group go on without it."""
    before = trial.watch.number
    client = trial.fleet.client_id(worker)
    end = trial.fleet.stop(worker, trial.limits.stop_grace_s)
    gone = trial.watch.wait(
        lambda g: g.number > before and not g.of_client(client), trial.limits.recovery_s
    )
    facts = f"exit {end.code}, {_generations(trial, before)}"
    return Proof("leave", worker, gone, facts, monotonic())


def kill(trial: Trial, worker: str) -> Proof:
    """kill -9 a worker; the process must be gone and its successor a new member."""
    before, pid = trial.watch.number, trial.fleet.pid(worker)
    members = _member_ids(trial)
    killed_at_s = monotonic()
    trial.fleet.signal(worker, signal.SIGKILL)
    successor = trial.fleet.wait_restarted(worker, pid, 10.0)
    end = trial.fleet.exit_of(pid)
    rejoined = _rejoined(trial, worker, members)
    holds = end is not None and end.code == -signal.SIGKILL and successor is not None and rejoined
    facts = (
        f"pid {pid} ended {end.code if end else '?'}, pid {successor} joined after"
        f" {monotonic() - killed_at_s:.1f} s, {_generations(trial, before)}"
    )
    return Proof("kill", worker, holds, facts, killed_at_s)


def suspend(trial: Trial, worker: str) -> Proof:
    """SIGSTOP a worker past its session, then SIGCONT; it must be expelled and come back."""
    before, members = trial.watch.number, _member_ids(trial)
    mine = {m.member_id for m in _members_of(trial, worker)}
    trial.fleet.signal(worker, signal.SIGSTOP)
    stopped_at_s = monotonic()
    stopped = _wait(lambda: trial.fleet.suspended(worker), 2.0)
    expelled = trial.watch.wait(
        lambda g: g.number > before and not mine & {m.member_id for m in g.members},
        trial.limits.session_timeout_s * 2 + 5,
    )
    # Long enough for the others to take over what the suspended worker believes it owns.
    sleep(1.0)
    trial.fleet.signal(worker, signal.SIGCONT)
    healed_at_s = monotonic()
    rejoined = _rejoined(trial, worker, members)
    facts = (
        f"stopped {healed_at_s - stopped_at_s:.1f} s,"
        f" {'expelled' if expelled else 'still a member'},"
        f" {'rejoined' if rejoined else 'did not rejoin'}, {_generations(trial, before)}"
    )
    holds = stopped and bool(mine) and expelled and rejoined
    return Proof("suspend", worker, holds, facts, healed_at_s)


def broker_pause(broker: PausableBroker, pause_s: float = PAUSE_S) -> Proof:
    """SIGSTOP the broker for `pause_s` seconds; it must not answer meanwhile and answer after."""
    broker.pause()
    paused_at_s = monotonic()
    silent = not reachable(broker.bootstrap, UNREACHABLE_S)
    sleep(max(0.0, pause_s - (monotonic() - paused_at_s)))
    broker.resume()
    healed_at_s = monotonic()
    back = _wait(lambda: reachable(broker.bootstrap, UNREACHABLE_S), BACK_S)
    facts = f"silent for {healed_at_s - paused_at_s:.1f} s" if silent else "still answered"
    return Proof("broker-pause", "broker", silent and back, facts, healed_at_s)


def broker_kill(broker: PausableBroker) -> Proof:
    """kill -9 the broker and start it again; unreachable between, another process after."""
    old = broker.pid
    broker.kill()
    silent = not reachable(broker.bootstrap, UNREACHABLE_S)
    broker.start()
    healed_at_s = monotonic()
    back = _wait(lambda: reachable(broker.bootstrap, UNREACHABLE_S), BACK_S)
    facts = f"pid {old} gone, pid {broker.pid} answers"
    return Proof("broker-kill", "broker", silent and back and broker.pid != old, facts, healed_at_s)


WORKER_FAULTS: Mapping[str, Callable[[Trial, str], Proof]] = {
    "join": join,
    "leave": leave,
    "kill": kill,
    "suspend": suspend,
}
BROKER_FAULTS: Mapping[str, Callable[[PausableBroker], Proof]] = {
    "broker-pause": broker_pause,
    "broker-kill": broker_kill,
}
ALL_FAULTS = (*WORKER_FAULTS, *BROKER_FAULTS)


def _member_ids(trial: Trial) -> set[str]:
    latest = trial.watch.latest
    return {m.member_id for m in latest.members} if latest else set()


def _members_of(trial: Trial, worker: str) -> tuple[Member, ...]:
    latest = trial.watch.latest
    return latest.of_client(trial.fleet.client_id(worker)) if latest else ()


def _rejoined(trial: Trial, worker: str, known: set[str]) -> bool:
    """The worker's newest process is a member that was not one before."""

    def new_member(generation: Generation) -> bool:
        members = generation.of_client(trial.fleet.client_id(worker))
        return any(m.member_id not in known and m.assignment for m in members)

    return trial.watch.wait(new_member, trial.limits.recovery_s)


def _generations(trial: Trial, before: int) -> str:
    return f"generation {before} -> {trial.watch.number}"


def _wait(fact: Callable[[], bool], timeout_s: float) -> bool:
    deadline = monotonic() + timeout_s
    while not fact():
        if monotonic() > deadline:
            return False
        sleep(0.05)
    return True
