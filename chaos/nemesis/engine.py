"""The nemesis: one fault at one target, from the announcement in its ledger to the recovery.

Guarantees: the ledger's line is on disk before the act; the lease and each undoing step too; every
started action gets a verdict, and an end once it is undone, from here or from the guardian. What
could not be undone is said, and its lease stays. A fault whose effect was not seen is void. Several
injections may run at once, each in a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType
from typing import Any, NamedTuple

import psutil
import psycopg2
from confluent_kafka import KafkaException

from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis import guardian, ledger, recovery
from chaos.nemesis.faults import REGISTRY, Fault, Run, Unproved
from chaos.nemesis.faults.fault import seen
from chaos.nemesis.lease import Lease
from chaos.nemesis.ledger import Deed, Ledger, Phase
from chaos.nemesis.undo import undo
from chaos.nemesis.world import Partition, World

RECOVERY_S = 60.0
TROUBLE = (LabError, OSError, KafkaException, psycopg2.Error, psutil.Error)
_NONE: Mapping[str, Any] = MappingProxyType({})


class Action(NamedTuple):
    """What to do to whom: `for_s` None is the fault's own; `params` are among the fault's."""

    fault: str
    target: str
    for_s: float | None = None
    seed: int = 0
    params: Mapping[str, Any] = _NONE


class Cell(NamedTuple):
    """One cell of the matrix; `reason` says why it cannot be done here, empty when it can."""

    fault: str
    target: str
    meaning: str
    reason: str


class Injection(NamedTuple):
    """What became of an action. Times are Unix seconds; `recovered_s` counts from the fault's
    start, or from its end when it lasted (docs/faults.md), None when no effect was seen in time.

    `outcome` is `proved`, `void` or `skipped`; only a proved one counts as covered. `after_failed`
    says what was not as it must be once the fault was to be over, empty when all was well: it
    could not be undone, or what it had to leave behind did not show.
    """

    action: str
    fault: str
    target: str
    seed: int
    started_s: float
    outcome: str
    ended_s: float
    expired: bool
    recovered_s: float | None
    detail: str
    after_failed: str = ""

    @property
    def proved(self) -> bool:
        """Whether the fault's effect was seen."""
        return self.outcome == Phase.PROVED.value


class Nemesis:
    """Injects faults into one lab. `seed` is added to that of every action."""

    def __init__(
        self,
        lab: Lab,
        ledger_path: Path | None = None,
        seed: int = 0,
        *,
        recovery_limit_s: float = RECOVERY_S,
    ) -> None:
        self.lab = lab
        self.ledger = Ledger(ledger_path or lab.files.root / ledger.NAME)
        self._seed, self._recovery_s = seed, recovery_limit_s

    def matrix(self) -> list[Cell]:
        """Every fault with every target in this lab, and whether it can be done here."""
        world = World(self.lab)
        return [
            Cell(name, target, fault.meaning(), fault.unavailable(world, target))
            for name, fault in REGISTRY.items()
            for target in fault.targets(world)
        ]

    def check(self, action: Action) -> Fault:
        """The fault of an action. Raises LabError for a fault, target or parameter not known."""
        fault = REGISTRY.get(action.fault)
        if fault is None:
            raise LabError(f"unknown fault {action.fault!r}; known: {', '.join(REGISTRY)}")
        targets = fault.targets(World(self.lab))
        if action.target not in targets:
            known = ", ".join(targets) or "nothing in this lab"
            raise LabError(f"{fault.name} cannot be aimed at {action.target!r}, but at: {known}")
        if unknown := action.params.keys() - fault.params.keys():
            known = ", ".join(fault.params) or "none"
            raise LabError(f"{fault.name} has no parameter {sorted(unknown)}; it has: {known}")
        return fault

    def run(self, action: Action, stop: threading.Event | None = None) -> Injection:
        """Do it, and return when it has ended and recovery was seen or not.

        `stop` ends it early, and so does any exception raised into this thread (Ctrl-C): then the
        fault is undone first. Raises LabError for an action that makes no sense here.
        """
        fault, world = self.check(action), World(self.lab)
        for_s = fault.for_s if action.for_s is None else action.for_s
        params = {**fault.params, **action.params}
        deed = Deed(
            f"{fault.name}-{action.target}-{token_hex(4)}",
            fault.name,
            action.target,
            self._seed + action.seed,
            for_s + fault.lease_extra_s,
            params,
        )
        if reason := fault.unavailable(world, action.target):
            at_s = self.ledger.write(deed, Phase.SKIPPED, reason)
            return _injection(deed, at_s, Phase.SKIPPED, at_s, False, None, reason)
        return _Injecting(self, fault, world, deed, for_s).run(stop or threading.Event())

    def recovered_s(
        self, world: World, deed: Deed, owned: frozenset[Partition], since_s: float
    ) -> float | None:
        """Seconds from `since_s` to the first new effect that needed the target."""
        sign = recovery.sign_of(deed.target, owned)
        if sign is None or self._recovery_s <= 0:
            return None
        return recovery.wait(world, sign, since_s, self._recovery_s)


class _Injecting:
    """One injection under way."""

    def __init__(
        self, nemesis: Nemesis, fault: Fault, world: World, deed: Deed, for_s: float
    ) -> None:
        self._nemesis, self._fault, self._world, self._deed = nemesis, fault, world, deed
        self._book = nemesis.ledger
        self._owned: frozenset[Partition] = world.owned(deed.target)
        directory = guardian.directory_of(nemesis.lab.files.root)
        self._lease = Lease(directory, deed)
        self._run = Run(world, deed.target, deed.action, deed.seed, for_s, deed.params, self._lease)
        self._verdict, self._detail = Phase.VOID, "it was broken off"
        self._expired = self._begun = False
        self._after_failed = ""

    def run(self, stop: threading.Event) -> Injection:
        """The whole of it."""
        try:
            guardian.ensure(self._nemesis.lab.files.root)
        except OSError as error:
            self._lease.take()
            self._lease.close()
            raise LabError(f"nothing was done: {error}") from error
        started_s = self._run.began_s = self._book.write(self._deed, Phase.STARTED)
        try:
            self._strike()
            stop.wait(max(0.0, self._run.until_s - time.time()))
        finally:
            ended_s = self._end()
        since_s = self._run.struck_s or started_s
        if self._fault.recovers_from != "start":
            since_s = ended_s
        recovered_s = None
        wanted = self._fault.recovers_from != "none" and not stop.is_set()
        if self._verdict is Phase.PROVED and wanted:
            recovered_s = self._nemesis.recovered_s(self._world, self._deed, self._owned, since_s)
        return _injection(
            self._deed, started_s, self._verdict, ended_s, self._expired, recovered_s, self._detail
        )._replace(after_failed=self._after_failed)

    def _strike(self) -> None:
        """Begin and prove; whatever goes wrong makes it void, and is told."""
        try:
            self._fault.start(self._run)
            self._begun = True
            self._detail = self._fault.prove(self._run)
        except (Unproved, *TROUBLE) as error:
            self._detail = _said(error)
            return
        if self._book.conclude(self._deed, Phase.PROVED, self._detail):
            self._verdict = Phase.PROVED
        else:
            self._detail = f"its lease was over before it was proved: {self._detail}"

    def _end(self) -> float:
        """Undo it unless the guardian has, and write the end; returns when it was undone."""
        self._book.conclude(self._deed, Phase.VOID, self._detail)
        self._fault.halt(self._run)
        self._expired = not self._lease.take()
        left = self._undo()
        ended_s = time.time()
        told = f"not undone: {left}" if left else self._after()
        self._detail = "; ".join(filter(None, (self._detail, told)))
        if left:
            self._after_failed = told
        elif not self._expired:
            self._book.conclude(self._deed, Phase.ENDED, told)
            self._lease.close()
        return ended_s

    def _undo(self) -> str:
        """Undo it, or wait while the guardian does; returns what is left of it."""
        if self._expired:
            try:
                seen("the guardian undid it", lambda: self._lease.over)
            except Unproved as error:
                return _said(error)
            return ""
        trouble = "; ".join(undo(self._nemesis.lab, self._lease.steps))
        if trouble:
            self._book.conclude(self._deed, Phase.NOT_UNDONE, trouble)
            self._lease.give_back()
        return trouble

    def _after(self) -> str:
        """What the fault tells once it is undone; nothing when it could not begin."""
        try:
            return self._fault.after(self._run) if self._begun else ""
        except (Unproved, *TROUBLE) as error:
            self._after_failed = f"afterwards: {_said(error)}"
            return self._after_failed


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _injection(
    deed: Deed,
    started_s: float,
    outcome: Phase,
    ended_s: float,
    expired: bool,
    recovered_s: float | None,
    detail: str,
) -> Injection:
    return Injection(
        deed.action, deed.fault, deed.target, deed.seed, started_s, outcome.value, ended_s,
        expired, recovered_s, detail,
    )  # fmt: skip
