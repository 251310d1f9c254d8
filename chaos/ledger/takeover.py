"""How long a killed worker's partitions stand still: kill -9 to the first new effects on them.

Times are the machine's wall clock on both sides: the harness notes when it sent SIGKILL, the
database when the transaction of each effect began. The load must reach every partition.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.ledger.probe_subject import ProbeSubject

if TYPE_CHECKING:
    from chaos.ledger.trial import Trial

POLL_S = 0.1


@dataclass(frozen=True)
class Takeover:
    """One kill: seconds to the first effect on any and on every partition the dead one owned."""

    worker: str
    partitions: int
    any_s: float
    every_s: float


class NoTakeover(RuntimeError):
    """The group did not settle, or a dead worker's partition saw no effect in time."""


def measure(
    trial: Trial, kills: int, rate_per_s: float, say: Callable[[str], None]
) -> list[Takeover]:
    """Kill the two workers in turn, `kills` times, under load; one result each.

    Each kill meets a settled group in which every partition moves. Raises NoTakeover.
    """
    trial.load.rate(rate_per_s)
    found = []
    for number in range(kills):
        _await_calm(trial)
        one = _kill(trial, trial.names[number % len(trial.names)])
        say(f"takeover {number + 1}/{kills}: {one}")
        found.append(one)
    trial.load.rate(0)
    return found


def percentile(values: list[float], share: float) -> float:
    """Nearest-rank percentile, `share` between 0 and 1 (NIST, 7.2.6.2). `values` is not empty."""
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


def _await_calm(trial: Trial) -> None:
    settled = trial.watch.wait(trial.settled, trial.limits.recovery_s)
    if not settled or trial.recovered(time.monotonic()) is None:
        raise NoTakeover(f"the group does not settle: {trial.watch.latest}")


def _kill(trial: Trial, worker: str) -> Takeover:
    subject, latest = trial.subject, trial.watch.latest
    assert isinstance(subject, ProbeSubject)
    assert latest is not None
    members = latest.of_client(trial.fleet.client_id(worker))
    owned = frozenset(tp for member in members for tp in member.assignment) & trial.inputs
    killed_at_s = time.time()
    trial.fleet.signal(worker, signal.SIGKILL)
    deadline_s = time.monotonic() + trial.limits.recovery_s
    while True:
        effects = subject.first_effects(killed_at_s)
        mine = [at_s - killed_at_s for tp, at_s in effects.items() if tp in owned]
        if len(mine) == len(owned):
            return Takeover(worker, len(owned), min(mine), max(mine))
        if time.monotonic() > deadline_s:
            raise NoTakeover(f"{worker} owned {sorted(owned)}, effects since: {effects}")
        time.sleep(POLL_S)
