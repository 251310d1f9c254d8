"""Who may join the line of orders that wait for a writer: the wait is bounded, not the count alone.

Pure. Guarantees: whoever is let in waits about `wait_max_s` at most while batches go on at their
pace, and nobody is let in while the first in line has waited longer than that. Nobody is refused
for the pace while less than one batch waits: a pace that is out of date corrects itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

WEIGHT: Final = 0.3
"""Of the latest batch in the pace: a change is known after a few batches, one stall soon forgot."""


class Line(NamedTuple):
    """The line now: how many wait, how long the first has, and the time between two batches."""

    waiting: int
    first_waits_s: float
    pace_s: float


class Bounds(NamedTuple):
    """How many may wait, how long, and how many of them one batch takes."""

    waiting_max: int
    wait_max_s: float
    batch_max: int


def has_room(line: Line, bounds: Bounds) -> bool:
    """Whether one more may join."""
    return (
        line.waiting < bounds.waiting_max
        and line.first_waits_s <= bounds.wait_max_s
        and line.waiting // bounds.batch_max * line.pace_s <= bounds.wait_max_s
    )


def paced(pace_s: float, batch_s: float, writers: int) -> float:
    """Return the time between two batches, `pace_s` so far, after one that took `batch_s`."""
    seen_s = batch_s / writers
    return seen_s if not pace_s else pace_s + WEIGHT * (seen_s - pace_s)
