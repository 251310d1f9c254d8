"""The verdict: every invariant holds, is violated with witnesses, or is unknown.

"Nothing found" after looking at nothing is no proof: an invariant that examined no item did not
hold, and neither did one whose book could not be read or that cannot be judged yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from chaos.auditor.invariants import Invariant, Kind

EXIT_CODES = {"holds": 0, "violated": 1, "unknown": 2}


class State(StrEnum):
    """What was found about one invariant; `nothing to check` is allowed for optional ones only."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    VACUOUS = "nothing to check"


class Moment(NamedTuple):
    """One line of a timeline: when (Unix seconds, 0 unknown), whose book, what."""

    at_s: float
    book: str
    what: str


class Witness(NamedTuple):
    """One violation: the item, what is wrong with it, and all that is known of its order."""

    item: str
    order_id: str
    wrong: str
    timeline: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One invariant after looking; `witnesses` are the first of `violations`."""

    invariant: Invariant
    examined: int = 0
    violations: int = 0
    witnesses: tuple[Witness, ...] = ()
    missing: str = ""

    @property
    def state(self) -> State:
        """What was found."""
        if self.violations:
            return State.VIOLATED
        if self.missing:
            return State.UNKNOWN
        if self.examined:
            return State.HOLDS
        return State.VACUOUS if self.invariant.optional else State.UNKNOWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings. `unrest` says why the system did not come to rest, empty when it did; `unread`
    names books that could not be read; `facts` are worth showing and violate nothing.
    """

    findings: Sequence[Finding]
    unrest: str = ""
    unread: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, kind: Kind) -> str:
        """`holds`, `violated` or `unknown` over the invariants of one kind.

        A system that does not come to rest violates liveness, whatever else holds; but whether it
        rests is unknown when a book cannot be read.
        """
        states = {one.state for one in self.findings if one.invariant.kind is kind}
        restless = kind is Kind.LIVENESS and bool(self.unrest) and not self.unread
        if State.VIOLATED in states or restless:
            return "violated"
        return "unknown" if State.UNKNOWN in states or not states else "holds"

    @property
    def result(self) -> str:
        """Both kinds together: violated before unknown before holds."""
        both = {self.of(kind) for kind in Kind}
        return next(one for one in ("violated", "unknown", "holds") if one in both)

    @property
    def exit_code(self) -> int:
        """0 holds, 1 violated, 2 unknown."""
        return EXIT_CODES[self.result]

    def in_state(self, state: State) -> list[Finding]:
        """The findings of one state."""
        return [one for one in self.findings if one.state is state]
