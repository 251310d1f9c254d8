"""What every fault from outside is: where it can strike, how it begins, and how it proves itself.

A fault never ends itself: before each act it names, as data, the step that undoes it
(`Run.undo`), and the engine or the guardian carries these out.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from chaos.nemesis.lease import Lease
from chaos.nemesis.world import World

T = TypeVar("T")
LOOK_S = 0.05
PROOF_S = 60.0


class Unproved(Exception):
    """The fault's effect was not seen: the run is void. The text says what was seen instead."""


@dataclass
class Run:
    """One injection under way. `notes` is what `start` leaves for `prove`."""

    world: World
    target: str
    action: str
    seed: int
    for_s: float
    params: Mapping[str, Any]
    lease: Lease
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.began_s = time.time()
        self.struck_s = 0.0

    def struck(self) -> None:
        """It has happened: recovery counts from now, and not from its announcement, because the
        victim may still have worked in between.
        """
        self.struck_s = time.time()

    def undo(self, step: str, **arguments: Any) -> None:
        """Say how the next act is undone (chaos.nemesis.undo), before doing it."""
        self.lease.add({"step": step, **arguments})

    @property
    def until_s(self) -> float:
        """When the fault is to end, in Unix seconds."""
        return self.began_s + self.for_s


class Fault(ABC):
    """One kind of fault; instances hold no state.

    `aims` says in words what it can be aimed at, `needs` what the lab or machine must offer.
    `for_s` is how long it lasts when nothing is said, 0 for a fault that is over once it happened.
    `params` are what else may be chosen, with their defaults. `recovers_from` tells whether
    recovery counts from the fault's `start` or from its `end`; `none`: nobody stands still.
    """

    name: ClassVar[str]
    aims: ClassVar[str]
    needs: ClassVar[str] = ""
    for_s: ClassVar[float] = 0.0
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    recovers_from: ClassVar[str] = "start"
    lease_extra_s: ClassVar[float] = 90.0
    """How much longer than `for_s` its lease lasts: for beginning and proving it."""

    @classmethod
    def meaning(cls) -> str:
        """The first line of its docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @abstractmethod
    def targets(self, world: World) -> list[str]:
        """What it can be aimed at in this lab."""

    def unavailable(self, world: World, target: str) -> str:
        """Why this lab or machine cannot do it, an empty text when it can."""
        del world, target
        return ""

    @abstractmethod
    def start(self, run: Run) -> None:
        """Make it happen."""

    @abstractmethod
    def prove(self, run: Run) -> str:
        """Return the evidence of its effect, as seen. Raises Unproved."""

    def halt(self, run: Run) -> None:
        """End what goes on in this very process, before the fault is undone; it may have failed to
        begin.
        """
        del run

    def after(self, run: Run) -> str:
        """What is to be told once it has begun and been undone; raises Unproved when something that
        it had to leave behind did not show.
        """
        del run
        return ""


def logged(run: Run, since_bytes: int, *words: str) -> bool:
    """Whether a line of the target's log from `since_bytes` on holds all of `words`."""
    with run.world.plan.files.log_of(run.target).open("rb") as log:
        log.seek(since_bytes)
        return any(all(word.encode() in line for word in words) for line in log)


def log_bytes(run: Run) -> int:
    """How long the target's log is by now."""
    return run.world.plan.files.log_of(run.target).stat().st_size


def seen(what: str, look: Callable[[], T | None], timeout_s: float = PROOF_S) -> T:
    """The first truthy answer of `look`; raises Unproved naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise Unproved(f"not seen within {timeout_s:g} s: {what}")
        time.sleep(LOOK_S)
