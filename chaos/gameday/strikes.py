"""The faults of one GameDay: struck when they are due, with proof, and ended.

Guarantees: nothing is broken once `stop` is set, and what is broken then ends; what became of every
planned fault is kept, whatever happened. Faults die with this process, too: those from outside by
the guardian, chaos rules by their leases (docs/faults.md).
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from chaos.console.api import ApiError
from chaos.gameday import session
from chaos.gameday.experiment import Knobs
from chaos.gameday.rules import LeasedRule, target_text
from chaos.gameday.timeline import Timeline
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis import lease
from chaos.nemesis.engine import Action, Nemesis
from chaos.nemesis.guardian import directory_of

LOOK_S = 0.2
RECOVERY_S = 30.0
"""How long the work of a fault's target may take to go on, if the experiment gives no less."""
ENDING_S = 90.0
OWN_ROLE = "gameday"


class Struck(NamedTuple):
    """What became of one planned fault; times are seconds from the GameDay's beginning.

    `outcome` is proved, void, skipped, refused or called off.
    """

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


class Strikes:
    """Carries out what an experiment plans; each fault in the thread that Chaos Toolkit gives it.

    `struck` is what became of those that are over.
    """

    def __init__(
        self,
        lab: Lab,
        timeline: Timeline,
        stop: threading.Event,
        *,
        url: str,
        knobs: Knobs,
        run_id: str,
    ) -> None:
        self.struck: list[Struck] = []
        self._lab, self._timeline, self._stop = lab, timeline, stop
        self._url, self._knobs, self._run_id = url, knobs, run_id
        self._nemesis = Nemesis(lab, recovery_limit_s=min(RECOVERY_S, knobs.recovery_s))
        self._method_s = 0.0
        self._active: dict[str, float] = {}
        self._turn = threading.Lock()
        self._leases_before: set[str] = set()
        self._rules_left: list[str] = []
        self._rule_numbers = itertools.count(1)

    def begin(self) -> None:
        """Remember which faults are somebody else's."""
        self._leases_before = self._leases()

    def method_begins(self) -> None:
        """The times of planned faults count from now."""
        self._method_s = time.monotonic()

    def due_in_s(self, at: float) -> float:
        """How long until the share `at` of the duration is over; 0 when it is."""
        due_s = self._method_s + at * self._knobs.duration_s
        return max(0.0, due_s - time.monotonic())

    @property
    def active(self) -> list[str]:
        """Faults in force."""
        return sorted(self._active)

    def inject(
        self, fault: str, target: str, at: float, for_s: float | None, params: Mapping[str, Any]
    ) -> Struck:
        """One fault from outside, when it is due; returns once it has ended."""
        name = session.activity() or fault
        if self._stopped_before(at):
            return self._keep(Struck(name, fault, target, "called off", "aborted before", 0, 0))
        seed = self._seed_of(name)
        began_s = self._timeline.now_s
        try:
            chosen = target or self._choose(fault, seed)
            self._timeline.say(f"{fault} at {chosen}")
            with self._in_force(name):
                done = self._nemesis.run(Action(fault, chosen, for_s, seed, params), self._stop)
        except Exception as error:  # whatever it is: it proves nothing, and the journal says so
            why = getattr(error, "detail", "") or f"{type(error).__name__}: {error}"
            ended_s = self._timeline.now_s
            return self._keep(Struck(name, fault, target, "refused", why, began_s, ended_s))
        return self._keep(
            Struck(
                name,
                fault,
                chosen,
                done.outcome,
                done.detail[:1000],
                round(done.started_s - self._timeline.began_s, 3),
                round(done.ended_s - self._timeline.began_s, 3),
                None if done.recovered_s is None else round(done.recovered_s, 3),
                done.after_failed[:1000],
                done.expired,
            )
        )

    def rule(self, arguments: Mapping[str, Any], at: float, for_s: float) -> Struck:
        """One chaos rule, when it is due; returns once it is gone."""
        name, fault = session.activity() or str(arguments["fault"]), f"rule {arguments['fault']}"
        aim = target_text(arguments.get("scope") or {})
        if self._stopped_before(at):
            return self._keep(Struck(name, fault, aim, "called off", "aborted before", 0, 0))
        began_s = self._timeline.now_s
        rule_id = f"gameday-{self._run_id[:8]}-{next(self._rule_numbers)}"
        one = LeasedRule(self._url, rule_id, arguments, self._seed_of(name), self._stop)
        self._timeline.say(f"{fault} {aim}")
        try:
            with self._in_force(name):
                try:
                    one.make(name)
                    one.hold(for_s)
                finally:
                    if not one.end():
                        self._rules_left.append(one.id)
        except ApiError as error:
            outcome, detail = "refused", error.detail
        else:
            found = one.evidence()
            outcome, detail = ("proved", found) if found else ("void", "it struck nothing")
        return self._keep(Struck(name, fault, aim, outcome, detail, began_s, self._timeline.now_s))

    def end(self) -> list[str]:
        """Wait until nothing is broken any more; faults of this GameDay that are still in force.

        `stop` is set before.
        """
        deadline = time.monotonic() + ENDING_S
        while (self._active or self._leases_left()) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return sorted({*self._active, *self._leases_left(), *self._rules_left})

    def _stopped_before(self, at: float) -> bool:
        """Wait for the moment `at` of the duration; whether the GameDay was aborted before."""
        return self._stop.wait(self.due_in_s(at))

    @contextmanager
    def _in_force(self, name: str) -> Iterator[None]:
        with self._turn:
            self._active[name] = self._timeline.now_s
        try:
            yield
        finally:
            with self._turn:
                self._active.pop(name, None)

    def _keep(self, one: Struck) -> Struck:
        self.struck.append(one)
        told = f"{one.fault} {'at ' + one.target if one.target else ''}: {one.outcome}"
        after = f", works again {one.recovered_s:.1f} s after its end" if one.recovered_s else ""
        self._timeline.say(told + (f": {one.detail}" if one.outcome != "proved" else after))
        return one

    def _seed_of(self, name: str) -> int:
        text = f"{self._knobs.seed}/{name}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) // 2

    def _choose(self, fault: str, seed: int) -> str:
        """A target that is possible, or one that is not when none is: then it is skipped."""
        cells = [cell for cell in self._nemesis.matrix() if cell.fault == fault]
        if not cells:
            raise LabError(f"there is nothing for {fault} in this lab")
        others = [cell for cell in cells if not cell.target.startswith(OWN_ROLE)] or cells
        possible = sorted(cell.target for cell in others if not cell.reason)
        return random.Random(seed).choice(possible or sorted(cell.target for cell in others))

    def _leases_left(self) -> set[str]:
        return self._leases() - self._leases_before

    def _leases(self) -> set[str]:
        return {found.deed.action for found in lease.found(directory_of(self._lab.files.root))}
