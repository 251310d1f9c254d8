"""Several events of one order, decided one after the other: pure.

One batch may hold an order's creation, a result and a cancellation; PostgreSQL sees them as one
guarded move from the version that was read to the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from app.domain.decision import Applied, Decision, Ignored, Illegal, SagaEvent, Transition
from app.domain.definition import Policy
from app.domain.record import Saga
from app.domain.saga import decide


class Move(NamedTuple):
    """What a batch does to one order.

    `expected` is the version read (0: none). `decisions` stand in the order of the events; `saga`
    is the last record, None while nothing is recorded. `doubtful` says that some event changed
    nothing: believe it only of the authority's record.
    """

    expected: int
    saga: Saga | None
    decisions: tuple[Decision, ...]

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return self.saga is not None and self.saga.version != self.expected

    @property
    def doubtful(self) -> bool:
        """Whether an event was ignored or illegal, which a stale copy can cause."""
        return any(isinstance(one, Ignored | Illegal) for one in self.decisions)

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """All lines of history, in order."""
        return tuple(
            line for one in self.decisions if isinstance(one, Applied) for line in one.transitions
        )


def decide_in_order(
    saga: Saga | None,
    events: Sequence[SagaEvent],
    now: datetime,
    *,
    policy: Policy,
    jitters: Sequence[float],
) -> Move:
    """Decide `events` in order, each on the record that the one before left. Raises nothing."""
    expected = 0 if saga is None else saga.version
    decisions: list[Decision] = []
    for event, jitter in zip(events, jitters, strict=True):
        decision = decide(saga, event, now, policy=policy, jitter=jitter)
        if isinstance(decision, Applied):
            saga = decision.saga
        decisions.append(decision)
    return Move(expected, saga, tuple(decisions))
