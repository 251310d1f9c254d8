"""Rounds of faults under load over one or several subjects at the same time, and their audit.

Guarantees: a given seed gives the same order of faults; a round whose fault did not prove its
effect is counted void and repeated; every block of rounds ends with a quiet group (or the deadline)
and a verdict over everything since the beginning.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING

from chaos.ledger.audit import Verdict, judge
from chaos.ledger.evidence import Collector
from chaos.ledger.faults import BROKER_FAULTS, WORKER_FAULTS, PausableBroker, Proof

if TYPE_CHECKING:
    from chaos.ledger.trial import Trial

ACK_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Plan:
    """What to do: `rounds` faults in blocks of `block`; rates in events per second.

    `burst` events are sent before each fault, `join_burst` before a join: they must outlast the
    start of the joining worker.
    """

    rounds: int
    faults: tuple[str, ...]
    seed: int
    rates: tuple[float, ...]
    block: int = 6
    burst: int = 0
    join_burst: int = 0
    in_flight_min: int = 0


@dataclass(frozen=True)
class Round:
    """One fault on one subject.

    `in_flight` counts acknowledged events that had not left stage 2 when the group was disturbed:
    before the fault, but for a join when the new member owned partitions.
    """

    subject: str
    fault: str
    target: str
    proven: bool
    facts: str
    in_flight: int
    recovery_s: float | None


@dataclass
class Result:
    """Everything a campaign found out about one subject."""

    subject: str
    rounds: list[Round] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    exits: dict[int, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def proven(self) -> int:
        """Rounds whose fault proved its effect."""
        return len(self.rounds) - self.void

    @property
    def void(self) -> int:
        """Rounds whose fault did not prove its effect."""
        return sum(1 for r in self.rounds if not r.proven)


class Schedule:
    """Endless fault order from a seed: every kind once before any comes again."""

    def __init__(self, faults: Sequence[str], seed: int) -> None:
        self._faults, self._random, self._bag = tuple(faults), random.Random(seed), list[str]()

    def next(self, up: int, width: int) -> list[str]:
        """The next fault, after the membership change it needs when `up` of `width` run."""
        if not self._bag:
            self._bag = list(self._faults)
            self._random.shuffle(self._bag)
        fault = self._bag.pop()
        if fault == "join" and up == width:
            return ["leave", "join"]
        if fault in ("leave", "kill", "suspend") and up == 1:
            return ["join", fault]
        return [fault]

    def pick(self, names: Sequence[str]) -> str:
        """One of `names`."""
        return self._random.choice(sorted(names))

    def pause_s(self, low: float, high: float) -> float:
        """A length between `low` and `high` seconds."""
        return self._random.uniform(low, high)


class Campaign:
    """Runs a plan over trials that already started; `say` gets one line per event."""

    def __init__(
        self,
        trials: Sequence[Trial],
        broker: PausableBroker,
        plan: Plan,
        say: Callable[[str], None],
    ) -> None:
        self._trials, self._broker, self._plan, self._say = trials, broker, plan, say
        self._schedule = Schedule(plan.faults, plan.seed)
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(trials)))
        self._collectors = [Collector(trial, broker.bootstrap) for trial in trials]
        self.results = [Result(trial.subject.name) for trial in trials]

    def run(self) -> list[Result]:
        """All rounds and audits; the results are also in `results` while it runs."""
        proven, tried = 0, 0
        try:
            while proven < self._plan.rounds and tried < 2 * self._plan.rounds + 2:
                for trial, rate in zip(self._trials, self._plan.rates, strict=True):
                    trial.load.rate(rate)
                sleep(1.0)
                for _ in range(min(self._plan.block, self._plan.rounds - proven)):
                    up = len(self._trials[0].fleet.workers)
                    for fault in self._schedule.next(up, len(self._trials[0].names)):
                        tried += 1
                        proven += self._round(fault)
                self._audit()
        finally:
            self._pool.shutdown()
        return self.results

    def _round(self, fault: str) -> bool:
        self._fill(self._plan.join_burst if fault == "join" else self._plan.burst)
        in_flight = [trial.in_flight() for trial in self._trials]
        if fault in BROKER_FAULTS:
            proofs = [BROKER_FAULTS[fault](self._broker)] * len(self._trials)
        else:
            index = self._target(fault)
            act = WORKER_FAULTS[fault]
            proofs = list(self._pool.map(lambda t: act(t, t.names[index]), self._trials))
        if fault == "join":
            in_flight = [trial.in_flight() for trial in self._trials]
        recoveries = list(self._pool.map(_recovery, self._trials, proofs))
        rows = zip(self.results, proofs, in_flight, recoveries, strict=True)
        for result, proof, flying, recovery_s in rows:
            row = Round(
                result.subject, fault, proof.target, proof.holds, proof.facts, flying, recovery_s
            )
            result.rounds.append(row)
            self._say(_line(row))
        sleep(self._schedule.pause_s(0.2, 2.0))
        # The first subject decides: a control that no longer rebalances is a finding, not a void.
        return proofs[0].holds

    def _fill(self, burst: int) -> None:
        """Put a burst in flight before the fault, when the plan asks for one."""
        if not burst:
            return
        for trial in self._trials:
            goal = len(trial.load.acked) + burst
            trial.load.burst(burst)
            deadline = monotonic() + ACK_TIMEOUT_S
            while len(trial.load.acked) < goal and trial.in_flight() < self._plan.in_flight_min:
                if monotonic() > deadline:
                    raise TimeoutError("the broker did not acknowledge the burst")
                sleep(0.002)

    def _target(self, fault: str) -> int:
        names, up = self._trials[0].names, self._trials[0].fleet.workers
        choice = [n for n in names if (n in up) != (fault == "join")]
        return names.index(self._schedule.pick(choice))

    def _audit(self) -> None:
        quiet = list(self._pool.map(lambda trial: trial.quiesce(), self._trials))
        rows = zip(self._trials, self._collectors, self.results, quiet, strict=True)
        for trial, collector, result, quiet_s in rows:
            verdict = judge(collector.collect(), quiet=quiet_s is not None)
            result.verdicts.append(verdict)
            result.findings = verdict.findings(effects_once=trial.subject.effects_once)
            result.exits = {}
            for end in trial.fleet.exits:
                result.exits[end.code] = result.exits.get(end.code, 0) + 1
            self._say(
                f"audit {result.subject}: {verdict.events} events, {verdict.lost} lost,"
                f" {verdict.stuck} stuck, {verdict.duplicates} duplicates,"
                f" quiet after {quiet_s and round(quiet_s, 1)} s,"
                f" {'; '.join(result.findings) or 'nothing found'}"
            )


def _recovery(trial: Trial, proof: Proof) -> float | None:
    return trial.recovered(proof.healed_at_s)


def _line(row: Round) -> str:
    recovery = "never" if row.recovery_s is None else f"{row.recovery_s:.1f} s"
    return (
        f"{row.subject}: {row.fault} {row.target} {'ok' if row.proven else 'VOID'}, {row.facts},"
        f" {row.in_flight} in flight, recovered {recovery}"
    )
