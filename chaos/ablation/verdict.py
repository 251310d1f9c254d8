"""What two runs say about a cure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chaos.ablation.cure import Cure
from chaos.ablation.experiments import EXPERIMENTS
from chaos.ablation.trial import Trial


class Row(NamedTuple):
    """A cure with its two runs."""

    cure: Cure
    kept: Trial
    removed: Trial

    @property
    def problems(self) -> list[str]:
        """Why the cure is not shown needed, empty when it is."""
        found = [
            f"the run {which} is void: {trial.void}"
            for which, trial in (("with it", self.kept), ("without it", self.removed))
            if trial.void
        ]
        if found:
            return found
        if not self.kept.holds:
            found.append(f"with it: {outcome(self.kept)}")
        missing = self.cure.breaks - self.removed.violated.keys()
        if missing:
            found.append(f"without it {', '.join(sorted(missing))} still hold")
        foreign = self.removed.violated.keys() - self.cure.breaks - self.cure.drags_along
        if foreign:
            found.append(f"without it {', '.join(sorted(foreign))} broke, which nobody declared")
        return found

    @property
    def needed(self) -> bool:
        """Whether everything holds with the cure, and exactly what must breaks without it."""
        return not self.problems


def outcome(trial: Trial) -> str:
    """What became of a run, in a few words: `holds`, or the invariants with their violations."""
    if trial.void:
        return "void"
    if trial.violated:
        return ", ".join(f"{name} ({count})" for name, count in sorted(trial.violated.items()))
    if trial.holds:
        return "holds"
    return f"unknown: {trial.unrest or ', '.join(trial.unknown)}"


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table."""
    cure = row.cure
    return (
        cure.name,
        cure.cure,
        cure.removed,
        EXPERIMENTS[cure.experiment].fault,
        outcome(row.kept),
        outcome(row.removed),
        "yes" if row.needed else "NO",
    )


HEAD = ("variant", "cure", "removed how", "fault", "with", "without", "needed?")


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def document(rows: Sequence[Row], *, seed: int, interrupted: bool) -> dict[str, Any]:
    """The whole result as JSON-ready data, without audits."""
    return {
        "seed": seed,
        "interrupted": interrupted,
        "needed": sum(row.needed for row in rows),
        "cures": [
            {
                "variant": row.cure.name,
                "cure": row.cure.cure,
                "removed": row.cure.removed,
                "experiment": row.cure.experiment,
                "fault": EXPERIMENTS[row.cure.experiment].fault,
                "must_break": sorted(row.cure.breaks),
                "may_break": sorted(row.cure.drags_along),
                "with": _trial(row.kept),
                "without": _trial(row.removed),
                "needed": row.needed,
                "problems": row.problems,
            }
            for row in rows
        ],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "outcome": outcome(trial),
        "orders": trial.orders,
        "seconds": round(trial.seconds, 1),
        "violated": dict(trial.violated),
        "unrest": trial.unrest,
        "void": trial.void,
    }
