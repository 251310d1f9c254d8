"""What becomes of an event that failed alone: pure rules.

What a further try cannot change is parked at once; anything else, an overtaken command included,
climbs the retry tiers and is parked after the last one.
The world being down (database, broker) is never an event's failure and does not come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.errors import Definite, Indefinite, Overtaken, Poison, SymphonyError


class ToTier(NamedTuple):
    """Try again after `delay_s` through the retry tier of that delay."""

    delay_s: int


class ToDeadLetter(NamedTuple):
    """Park: an operator or a redrive must act."""


def next_move(
    error: SymphonyError, attempt: int, *, tiers_s: Sequence[int], attempts_max: int
) -> ToTier | ToDeadLetter:
    """Decide about delivery number `attempt` (0 = first) that ended in `error`.

    The n-th retry uses the n-th tier, later ones the last tier. `attempts_max` counts deliveries.
    """
    hopeless = isinstance(error, Poison | Definite) and not isinstance(error, Overtaken)
    if hopeless or not tiers_s or attempt + 1 >= attempts_max:
        return ToDeadLetter()
    return ToTier(tiers_s[min(attempt, len(tiers_s) - 1)])


def as_symphony_error(error: Exception) -> SymphonyError:
    """Name an unforeseen exception: it may have happened, so the same id is tried again."""
    if isinstance(error, SymphonyError):
        return error
    return Indefinite(f"{type(error).__name__}: {error}")
