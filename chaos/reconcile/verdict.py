"""The verdict: every invariant held, violated with witnesses, or could not be checked.

Three values, because "nothing found" after looking at nothing is no proof: a check that examined
no item is `vacuous`, one whose source is missing is `unknown`, and neither counts as held.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

WITNESSES_MAX = 32
EXIT_CODES = {"holds": 0, "violated": 1, "unknown": 2}


class State(StrEnum):
    """What one check found."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    VACUOUS = "nothing to check"


class Witness(NamedTuple):
    """One violation: the order (or other item) and what is wrong with it."""

    item: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant after looking: how many items were examined, how many violate it.

    `witnesses` are the first of `violations`; `note` is shown beside the result.
    """

    name: str
    title: str
    examined: int
    violations: int = 0
    witnesses: tuple[Witness, ...] = ()
    note: str = ""
    missing: str = ""

    @property
    def state(self) -> State:
        """What was found."""
        if self.violations:
            return State.VIOLATED
        if self.missing:
            return State.UNKNOWN
        return State.HOLDS if self.examined else State.VACUOUS


class Verdict(NamedTuple):
    """All checks of one reconciliation, and facts worth showing that violate nothing."""

    checks: Sequence[Check]
    orders: int
    facts: dict[str, Any]

    @property
    def result(self) -> str:
        """`violated` when any check is; else `unknown` when a source was missing or no order was
        examined; else `holds`. A vacuous check alone changes nothing.
        """
        states = {check.state for check in self.checks}
        if State.VIOLATED in states:
            return "violated"
        if State.UNKNOWN in states or not self.orders:
            return "unknown"
        return "holds"

    @property
    def vacuous(self) -> list[str]:
        """Names of the checks that had nothing to examine."""
        return [check.name for check in self.checks if check.state is State.VACUOUS]


def found(
    name: str, title: str, examined: int, wrong: Iterable[tuple[str, str]], note: str = ""
) -> Check:
    """Return the check of `examined` items with its violations (item, what is wrong)."""
    witnesses: list[Witness] = []
    violations = 0
    for item, text in wrong:
        violations += 1
        if len(witnesses) < WITNESSES_MAX:
            witnesses.append(Witness(item, text))
    return Check(name, title, examined, violations, tuple(witnesses), note)


def unknown(name: str, title: str, missing: str) -> Check:
    """Return the check that could not be made because `missing` could not be read."""
    return Check(name, title, 0, missing=missing)
