"""What Kafka refused: aggregates that are held back, and rows that were refused too often.

Pure book-keeping. A refused row holds back the later rows of its aggregate and of nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from app.db.outbox import OutboxRow

ATTEMPTS_MAX = 5
HELD_MAX = 1000
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0


class Refused(NamedTuple):
    """A row that Kafka refused, and why; `hopeless` when no later try can succeed."""

    row: OutboxRow
    error: str
    hopeless: bool


class Refusals:
    """Aggregates held back until a time of the caller's clock, in seconds."""

    def __init__(self) -> None:
        self._until_s: dict[str, float] = {}

    def held(self, now_s: float) -> list[str]:
        """Aggregates whose rows must not be read yet."""
        self._until_s = {key: until for key, until in self._until_s.items() if until > now_s}
        return list(self._until_s)

    def must_park(self, refused: Refused) -> bool:
        """Whether the row is given up: hopeless, refused too often, or too many are held back."""
        full = len(self._until_s) >= HELD_MAX
        return refused.hopeless or refused.row.attempts + 1 >= ATTEMPTS_MAX or full

    def hold(self, row: OutboxRow, now_s: float) -> None:
        """Hold back the row's aggregate, longer with each refusal."""
        pause_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0**row.attempts)
        self._until_s[row.aggregate_id] = now_s + pause_s
