"""One GameDay under way: load, guard, faults, recovery, audit, verdict.

Guarantees: whatever happens, faults are ended and the verdict is written; nothing is broken once
the GameDay is aborted. Faults also die with this process: their leases are the guardian's
(docs/faults.md). It does not decide anything itself: guard and verdict are pure.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from chaos.audit import AuditFailed, run_audit
from chaos.console.api import ApiError
from chaos.gameday import alerts, guard, lock, session, verdict
from chaos.gameday.experiment import Experiment
from chaos.gameday.measure import Meter
from chaos.gameday.rules import LeasedRule
from chaos.gameday.verdict import FaultFound, Findings, Verdict
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis import lease
from chaos.nemesis.engine import Action, Nemesis
from chaos.nemesis.guardian import directory_of
from chaos.observe import exam
from chaos.observe.embedded import OBSERVERS
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic, TrafficFailed

WARM_ORDERS = 5
WARM_TIMEOUT_S = 60.0
LOOK_S = 0.2
FAULT_RECOVERY_S = 30.0
ENDING_S = 90.0
RECHECK_S = 15.0
REST_DEADLINE_S = 180.0
SAMPLES_MAX = 20_000
OWN_ROLE = "gameday"

Say = Callable[[str], None]
Steady = Callable[[], bool]


class GameDayError(Exception):
    """A GameDay cannot begin; the text says why and what to do."""


class Recorder(Protocol):
    """Who keeps the state of a run while it goes on, and its end."""

    def tell(self, phase: str, progress: Mapping[str, Any]) -> bool:
        """Keep where it is; whether somebody wants it aborted. Never waits, never raises."""

    def end(self, found: Verdict, journal: Mapping[str, Any], page: bytes) -> None:
        """Keep verdict, journal and report."""


class Struck(NamedTuple):
    """What became of one planned fault; times are seconds from the GameDay's beginning."""

    name: str
    fault: str
    target: str
    outcome: str
    detail: str
    began_s: float
    ended_s: float
    recovered_s: float | None = None
    after_failed: str = ""
    expired: bool = False


class Phase(NamedTuple):
    """A part of the GameDay, in seconds from its beginning."""

    name: str
    began_s: float
    ended_s: float | None = None


class Game:
    """One run of `experiment` in `lab`; `begin`, then what the experiment asks for, then `finish`.

    One at a time in a lab: `begin` raises GameDayError when another one goes on.
    """

    def __init__(
        self,
        experiment: Experiment,
        lab: Lab,
        *,
        run_id: str,
        recorder: Recorder,
        report_dir: Path | None = None,
        say: Say,
    ) -> None:
        self.experiment, self.lab, self.run_id = experiment, lab, run_id
        self.recorder, self._say = recorder, say
        self.report_dir = report_dir or lab.files.root / lock.DIRECTORY / run_id
        knobs, self.target = experiment.knobs, target_of(lab)
        self.began_s = time.time()
        self.stop = threading.Event()
        self.aborted = ""
        self.broken = ""
        self.phases: list[Phase] = []
        self.struck: list[Struck] = []
        self.samples: list[dict[str, Any]] = []
        self.audit: dict[str, Any] = {}
        self.settle_s: float | None = None
        self.audit_s: float | None = None
        self.known: Mapping[str, int] = {}
        self.exam: dict[str, Any] = {}
        self.steady: Steady = lambda: False
        self.steady_after: bool | None = None
        self.verdict: Verdict | None = None
        self.on_sample: Callable[[Mapping[str, Any]], None] = lambda _: None
        self.traffic = Traffic(
            self.target, rate_per_s=knobs.rate_per_s, seed=knobs.seed, mix=experiment.mix
        )
        self.meter = Meter(self.target.dsn, self.traffic)
        self.alerts = alerts.Watch(lab.status().get("observe"), self.began_s)
        self._nemesis = Nemesis(
            lab, recovery_limit_s=min(FAULT_RECOVERY_S, experiment.knobs.recovery_s)
        )
        self._active: dict[str, float] = {}
        self._turn = threading.Lock()
        self._guard, self._guarding = guard.State(), False
        self._method_s = 0.0
        self._leases: set[str] = set()
        self._rules_left: list[str] = []
        self._rule_numbers = itertools.count(1)
        self._enough = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="gameday-guard", daemon=True)
        self._lock: IO[str] | None = None
        self._sent_before = 0

    # ---- time -------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Seconds since the GameDay began."""
        return round(time.time() - self.began_s, 3)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens inside belongs to this phase."""
        self.enter(name)
        try:
            yield
        finally:
            self._leave()

    def enter(self, name: str) -> None:
        """The phase before is over, and this one begins."""
        self._leave()
        self.phases.append(Phase(name, self.now_s))
        self._say(f"{self.now_s:6.1f} s  {name}")
        self.recorder.tell(name, self.samples[-1] if self.samples else {})

    def _leave(self) -> None:
        if self.phases and self.phases[-1].ended_s is None:
            self.phases[-1] = self.phases[-1]._replace(ended_s=self.now_s)

    # ---- the beginning -----------------------------------------------------------------------

    def begin(self) -> None:
        """Let orders flow and look on. Raises GameDayError and TrafficFailed."""
        self._lock = alone(self.lab.files.root)
        self._leases = _leases(self.lab)
        self.enter("warm-up")
        self.meter.start()
        self.alerts.start()
        self.traffic.__enter__()
        self._watcher.start()
        deadline = time.monotonic() + WARM_TIMEOUT_S
        until = time.monotonic() + self.experiment.knobs.warm_up_s
        while time.monotonic() < until or self.traffic.accepted < WARM_ORDERS:
            self.traffic.check()
            if self.stop.wait(LOOK_S):
                return
            if time.monotonic() > max(deadline, until):
                raise TrafficFailed(f"no order was accepted within {WARM_TIMEOUT_S:g} s")

    def abort(self, why: str) -> None:
        """End what is broken and come to the verdict; the first reason counts."""
        if not self.aborted:
            self.aborted = why
            self._say(f"{self.now_s:6.1f} s  ABORTED: {why}")
        self.stop.set()

    # ---- faults ------------------------------------------------------------------------------

    def method_begins(self) -> None:
        """The times of planned faults count from now, and the guard is armed."""
        self._method_s = time.monotonic()
        self._guarding = True

    @property
    def active(self) -> int:
        """Faults in force."""
        return len(self._active)

    def inject(
        self, fault: str, target: str, at: float, for_s: float | None, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One fault from outside, when it is due; returns once it has ended."""
        name = session.activity() or fault
        if self._due(at):
            return self._record(Struck(name, fault, target, "called off", "aborted before", 0, 0))
        seed = self._seed_of(name)
        began_s = self.now_s
        try:
            chosen = target or self._choose(fault, seed)
            self._say(f"{began_s:6.1f} s  {fault} at {chosen}")
            with self._in_force(name):
                done = self._nemesis.run(Action(fault, chosen, for_s, seed, params), self.stop)
        except Exception as error:  # whatever it is: it proves nothing, and the journal says so
            why = getattr(error, "detail", "") or f"{type(error).__name__}: {error}"
            return self._record(Struck(name, fault, target, "refused", why, began_s, self.now_s))
        return self._record(
            Struck(
                name,
                fault,
                chosen,
                done.outcome,
                done.detail[:1000],
                round(done.started_s - self.began_s, 3),
                round(done.ended_s - self.began_s, 3),
                None if done.recovered_s is None else round(done.recovered_s, 3),
                done.after_failed[:1000],
                done.expired,
            )
        )

    def rule(self, arguments: Mapping[str, Any], at: float, for_s: float) -> dict[str, Any]:
        """One chaos rule, when it is due; returns once it is gone."""
        name, fault = session.activity() or str(arguments["fault"]), f"rule {arguments['fault']}"
        aim = target_text(arguments.get("scope") or {})
        if self._due(at):
            return self._record(Struck(name, fault, aim, "called off", "aborted before", 0, 0))
        began_s = self.now_s
        number = next(self._rule_numbers)
        one = LeasedRule(
            self.target.url, f"gameday-{self.run_id[:8]}-{number}", arguments, self._seed_of(name)
        )
        self._say(f"{began_s:6.1f} s  {fault} {aim}")
        try:
            with self._in_force(name):
                one.make(name)
                try:
                    one.hold(for_s, self.stop)
                finally:
                    if not one.end():
                        self._rules_left.append(one.id)
        except ApiError as error:
            return self._record(
                Struck(name, fault, aim, "refused", error.detail, began_s, self.now_s)
            )
        found = one.evidence()
        outcome, detail = ("proved", found) if found else ("void", "it struck nothing")
        return self._record(Struck(name, fault, aim, outcome, detail, began_s, self.now_s))

    def _due(self, at: float) -> bool:
        """Wait for the moment `at` of the duration; True when the GameDay was aborted before."""
        due = self._method_s + at * self.experiment.knobs.duration_s
        return self.stop.wait(max(0.0, due - time.monotonic()))

    @contextmanager
    def _in_force(self, name: str) -> Iterator[None]:
        with self._turn:
            self._active[name] = self.now_s
        try:
            yield
        finally:
            with self._turn:
                self._active.pop(name, None)

    def _record(self, one: Struck) -> dict[str, Any]:
        self.struck.append(one)
        told = f"{one.fault} {'at ' + one.target if one.target else ''}: {one.outcome}"
        after = f", works again {one.recovered_s:.1f} s after its end" if one.recovered_s else ""
        why = f": {one.detail}" if one.outcome != "proved" else after
        self._say(f"{self.now_s:6.1f} s  {told}{why}")
        return one._asdict()

    def _seed_of(self, name: str) -> int:
        text = f"{self.experiment.knobs.seed}/{name}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) // 2

    def _choose(self, fault: str, seed: int) -> str:
        """A target that is possible, or one that is not when none is: then it is skipped."""
        cells = [cell for cell in self._nemesis.matrix() if cell.fault == fault]
        if not cells:
            raise LabError(f"there is nothing for {fault} in this lab")
        others = [cell for cell in cells if not cell.target.startswith(OWN_ROLE)] or cells
        possible = sorted(cell.target for cell in others if not cell.reason)
        return random.Random(seed).choice(possible or sorted(cell.target for cell in others))

    # ---- what the method waits for -----------------------------------------------------------

    def hold(self) -> dict[str, Any]:
        """Wait until the duration is over, or the GameDay is aborted."""
        began_s = self.now_s
        end = self._method_s + self.experiment.knobs.duration_s
        self.stop.wait(max(0.0, end - time.monotonic()))
        return {"held_s": round(self.now_s - began_s, 1), "aborted": self.aborted}

    def recover(self) -> dict[str, Any]:
        """Wait for the faults to end by themselves, then for the steady state."""
        if self.stop.is_set():
            return {"recovered": None, "aborted": self.aborted}
        while self.active and not self.stop.wait(LOOK_S):
            pass
        self._guarding = False
        self.enter("recovery")
        met = self.wait_steady(self.experiment.knobs.recovery_s)
        return {"recovered": met, "aborted": self.aborted}

    def wait_steady(self, timeout_s: float) -> bool:
        """Whether the steady state holds, or comes back in time."""
        deadline = time.monotonic() + timeout_s
        interrupted = self.aborted
        while not self.steady():
            if time.monotonic() > deadline or self.aborted != interrupted:
                return False
            time.sleep(2 * LOOK_S)
        return True

    def end_faults(self) -> dict[str, Any]:
        """End what is broken now, wait until it is whole, and say what could not be ended."""
        self._guarding = False
        self.stop.set()
        deadline = time.monotonic() + ENDING_S
        while (self.active or _leases(self.lab) - self._leases) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        left = self.left()
        return {"ended": not left, "left": left}

    def left(self) -> list[str]:
        """Faults of this GameDay that are still in force."""
        leases = _leases(self.lab) - self._leases
        return sorted({*self._active, *leases, *self._rules_left})

    def not_ready(self) -> list[str]:
        """Processes that are meant to run and do not work; the lab's own word and each worker's."""
        rows = self.lab.status(delivery=True)["processes"]
        return [
            row["name"]
            for row in rows
            if row["role"] not in OBSERVERS and (
                row["state"] not in ("ready", "stopped")
                or (row["state"] == "ready" and row.get("delivery") is not None
                    and not row["delivery"].get("ready", True))
            )
        ]  # fmt: skip

    # ---- the guard ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look, judge and tell, until the load is over."""
        limits = self.experiment.ours.guard
        while not self._enough.wait(limits.every_s):
            try:
                self._look(limits)
            except LabError as error:
                self.abort(f"the lab is gone: {error}")

    def _look(self, limits: guard.Limits) -> None:
        reading = self.meter.reading(limits.window_s)
        found = guard.evaluate(limits, reading)
        if self._guarding:
            self._guard = guard.following(self._guard, limits, found, reading)
            if self._guard.abort:
                self.abort(f"guard: {self._guard.abort}")
        sample = self._sample(limits.every_s, reading, found)
        self.on_sample(sample)
        if self.recorder.tell(sample["phase"], sample):
            self.abort("an operator asked for it")

    def _sample(
        self, every_s: float, reading: guard.Reading, found: guard.Evaluation
    ) -> dict[str, Any]:
        seen, sent, firing = self.meter.client(every_s), self.traffic.sent, self.alerts.firing
        sample = {
            "at_s": self.now_s,
            "phase": self.phases[-1].name if self.phases else "",
            "sent": sent,
            "sent_per_s": round((sent - self._sent_before) / every_s, 2),
            "accepted_per_s": round(seen.accepted / every_s, 2),
            "refused_per_s": round((seen.ended - seen.accepted) / every_s, 2),
            "p50_ms": _rounded(seen.p50_ms),
            "p95_ms": _rounded(seen.p95_ms),
            "backlog": reading.backlog,
            "stuck": reading.stuck,
            "error_ratio": _rounded(reading.error_ratio, 4),
            "window_p95_ms": _rounded(reading.accept_p95_ms),
            "faults": sorted(self._active),
            "firing": None if firing is None else sorted(firing),
            "guarding": self._guarding,
            "bad": list(found.bad),
            "bad_in_a_row": self._guard.bad,
        }
        self._sent_before = sent
        if len(self.samples) < SAMPLES_MAX:
            self.samples.append(sample)
        return sample

    # ---- the end -----------------------------------------------------------------------------

    def finish(self, steady_before: bool | None, steady_after: bool | None) -> Verdict:
        """End everything and judge it; called once, whatever has happened before.

        The steady states are what Chaos Toolkit found before and after the method.
        """
        left: list[str] = []
        try:
            left = self.end_faults()["left"]
            self.steady_after = self._recheck(steady_before, steady_after)
        except (LabError, OSError) as error:
            self.broken = self.broken or f"the lab is gone: {error}"
        self._sit_exam(steady_before)
        self._stop_load()
        self._say_audit(self._audited(steady_before))
        found = Findings(
            steady_before=steady_before,
            steady_after=self.steady_after,
            faults=tuple(_fault_found(one) for one in self.struck),
            aborted=self.aborted,
            broken=self.broken,
            left=tuple(left),
            audit=str(self.audit.get("result", "")),
            audit_detail=_first_wrong(self.audit),
            audit_known=only_known(self.audit, self.known),
            accepted=self.traffic.accepted,
            orders_min=self.experiment.ours.orders_min,
            exam=self.exam["result"] if self.exam.get("required") else "",
            exam_detail="; ".join(self.exam.get("reasons", ())),
        )
        return verdict.judge(found)

    # ---- the alert exam ----------------------------------------------------------------------

    def _sit_exam(self, steady_before: bool | None) -> None:
        """Wait, while orders flow, for alerts that may still fire or stop in time; then mark."""
        ours = self.experiment.ours
        sheet, faults = ours.sheet, self._faults()
        if sheet is None and not self.alerts.possible:
            return
        if sheet is not None and self.alerts.possible and steady_before and not self.broken:
            interrupted = self.aborted
            if self._exam_pending(sheet, faults) and not interrupted:
                with self.phase("alert exam"):
                    while self._exam_pending(sheet, faults) and self.aborted == interrupted:
                        time.sleep(LOOK_S)
        self.alerts.stop()
        self.exam = alerts.document(
            sheet, faults, self.alerts, self.now_s, required=ours.exam == "required"
        )
        self._say(f"{self.now_s:6.1f} s  alert exam: {alerts.sentence(self.exam)}")

    def _exam_pending(self, sheet: exam.Sheet, faults: Sequence[exam.Fault]) -> bool:
        return alerts.worth_waiting(sheet, faults, self.alerts, self.now_s)

    def _faults(self) -> list[exam.Fault]:
        """What was broken, for the exam; what was called off was never there."""
        return [
            exam.Fault(one.name, one.began_s, one.ended_s, one.outcome == "proved")
            for one in self.struck
            if one.outcome != "called off"
        ]

    def _recheck(self, before: bool | None, after: bool | None) -> bool | None:
        """The steady state once chaos is gone; None when there was nothing to recover from."""
        if before is None or before is False or self.broken:
            return None
        if after is False:
            return False
        with self.phase("steady state after rollback"):
            return self.wait_steady(
                RECHECK_S if after is True else self.experiment.knobs.recovery_s
            )

    def _stop_load(self) -> None:
        began_s = time.monotonic()
        try:
            self.traffic.stop()
        except (TrafficFailed, RuntimeError) as error:
            self.broken = self.broken or str(error)
        self.settle_s = time.monotonic() - began_s
        self._enough.set()
        self.meter.stop()

    def _audited(self, before: bool | None) -> str:
        """Let the auditor read all books; returns what kept it from a verdict."""
        if before is None or before is False:
            return ""
        began_s = time.monotonic()
        with self.phase("audit"):
            try:
                done = run_audit(
                    self.target,
                    self.target.ledgers(),
                    deadline_s=REST_DEADLINE_S,
                    progress=lambda line: self._say(f"          {line}"),
                )
            except (AuditFailed, LabError, OSError) as error:
                self.audit = {"result": "unknown", "sentence": str(error)}
                return str(error)
            except KeyboardInterrupt:
                self.audit = {"result": "unknown", "sentence": "it was broken off"}
                return "the audit was broken off"
            self.audit = {**done.document, "sentence": done.sentence}
            self._took(time.monotonic() - began_s, float(done.document["rest_s"]))
            return ""

    def _took(self, whole_s: float, rest_s: float) -> None:
        """To settle is to wait for the last answers and, in the auditor, for rest."""
        self.settle_s = (self.settle_s or 0.0) + rest_s
        self.audit_s = whole_s - rest_s

    def _say_audit(self, trouble: str) -> None:
        if self.audit:
            self._say(f"{self.now_s:6.1f} s  audit: {trouble or self.audit['sentence']}")

    def close(self) -> None:
        """Let another GameDay begin."""
        self._leave()
        self._enough.set()
        self.meter.stop()
        self.alerts.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def violations(audit: Mapping[str, Any]) -> dict[str, int]:
    """How often each violated invariant is violated."""
    found = audit.get("invariants", ())
    return {one["id"]: one["violations"] for one in found if one["violations"]}


def _first_wrong(audit: Mapping[str, Any]) -> str:
    """The audit's sentence, and the first thing that is wrong with one order."""
    told = str(audit.get("sentence", ""))
    for one in audit.get("invariants", ()):
        for witness in one["witnesses"]:
            if witness["order_id"]:
                return f"{told} ({one['id']}: order {witness['order_id']}: {witness['wrong']})"
    return told


def only_known(audit: Mapping[str, Any], known: Mapping[str, int]) -> bool:
    """Whether an audit found violations, and none that is not `known` of these books: an audit is
    of all that a lab has ever done.
    """
    found = violations(audit)
    return bool(found) and all(count <= known.get(name, 0) for name, count in found.items())


def target_text(scope: Mapping[str, Any]) -> str:
    """A rule's scope in words."""
    told = [", ".join(value) if isinstance(value, list) else str(value) for value in scope.values()]
    return " ".join(told) or "everywhere"


def alone(root: Path) -> IO[str]:
    """The lock of a lab's one GameDay, held until it is closed or this process ends.

    Raises GameDayError when another process has it.
    """
    file = lock.take(root)
    if file is None:
        pid = lock.holder(root) or "unknown"
        raise GameDayError(
            f"a GameDay goes on in {root} (pid {pid}): see `symphony gameday status`"
        )
    return file


def _leases(lab: Lab) -> set[str]:
    return {found.deed.action for found in lease.found(directory_of(lab.files.root))}


def _fault_found(one: Struck) -> FaultFound:
    """What the verdict needs of a fault; one that left something wrong behind is a doubt."""
    if one.after_failed:
        return FaultFound(one.name, "not as it must be afterwards", one.after_failed)
    if one.expired:
        return FaultFound(one.name, "ended by its lease", one.detail)
    return FaultFound(one.name, one.outcome, one.detail)


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
