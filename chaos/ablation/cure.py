"""What a cure is: what takes it out, the experiment that needs it, what breaks without it."""

from __future__ import annotations

from typing import NamedTuple

PLUGINS = "chaos.naive"
RESTLESS_S, SLOW_S, REST_S = 8.0, 40.0, 60.0


class Cure(NamedTuple):
    """`name` is the plug-in in chaos.naive and how the cure is chosen on the command line.

    Without the cure every invariant of `breaks` must be violated in `experiment`; those of
    `drags_along` may be, as consequences; any other is a false alarm. `tested` ones run in the test
    suite.
    """

    name: str
    cure: str
    removed: str
    experiment: str
    breaks: frozenset[str]
    drags_along: frozenset[str] = frozenset()
    tested: bool = False

    @property
    def patience_s(self) -> float:
        """How long a run without the cure may take to come to rest; one that cannot need not."""
        if "O4" in self.breaks:
            return RESTLESS_S if len(self.breaks) > 1 else SLOW_S
        return SLOW_S if "O4" in self.drags_along else REST_S

    @property
    def plugin(self) -> str:
        """The module that takes the cure out."""
        return f"{PLUGINS}.{self.name}"


def cure_of(
    name: str,
    cure: str,
    removed: str,
    experiment: str,
    breaks: str,
    drags_along: str = "",
    *,
    tested: bool = False,
) -> Cure:
    """Make a cure; invariants are given as words. Who is told of an order is told of what broke, so
    N1 may always follow.
    """
    follows = frozenset(drags_along.split()) | {"N1"}
    return Cure(
        name,
        cure,
        removed,
        experiment,
        frozenset(breaks.split()),
        follows - frozenset(breaks.split()),
        tested,
    )
