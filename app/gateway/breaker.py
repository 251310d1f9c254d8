"""A circuit breaker as a pure state machine: closed, open, half-open with a single probe.

Closed counts consecutive failures; at `failures_max` it opens. Open refuses every call for `open_s`
seconds; then the next caller is the probe and everybody else stays refused until it reports. A
successful probe closes the breaker, a failed one opens it again, an abandoned one leaves its place
to the next caller. A business answer such as a decline is a success: the other side is alive.

It begins closed, knowing nothing: its predecessor may have ended open. So the first answer is told.

Reports of calls that were admitted before the last change of state are ignored, so a late answer
neither closes an open breaker nor ends a probe that is not its own. No locks: for one event loop.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from collections.abc import Callable

Permit = NewType("Permit", int)
"""Leave to make one call; give it back by exactly one of `succeed`, `fail` and `abandon`."""


class State(StrEnum):
    """The breaker's states."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def ignore(_: State) -> None:
    """The observer where nobody listens."""


class Breaker:
    """One breaker guards one third party; `monotonic` gives seconds that never go back."""

    def __init__(
        self,
        *,
        failures_max: int,
        open_s: float,
        monotonic: Callable[[], float],
        changed: Callable[[State], None] = ignore,
        answered: Callable[[State], None] = ignore,
    ) -> None:
        """`changed` is told every new state, `answered` that the first answer found it closed.

        Raises ValueError for impossible limits.
        """
        if failures_max < 1 or open_s < 0:
            raise ValueError("failures_max must be at least 1 and open_s not negative")
        self._failures_max = failures_max
        self._open_s = open_s
        self._monotonic = monotonic
        self._changed = changed
        self._tell_answer = answered
        self._state = State.CLOSED
        self._answered = False
        self._failures = 0
        self._opened_at = 0.0
        self._probing = False
        self._generation = 0

    @property
    def state(self) -> State:
        """The state after the last call of a method; open turns half-open only by `admit`."""
        return self._state

    def admit(self) -> Permit | None:
        """Return a permit for one call, or None when the call must not be made now."""
        if self._state is State.OPEN and self._monotonic() - self._opened_at >= self._open_s:
            self._enter(State.HALF_OPEN)
        if self._state is State.CLOSED:
            return Permit(self._generation)
        if self._state is State.HALF_OPEN and not self._probing:
            self._probing = True
            return Permit(self._generation)
        return None

    def succeed(self, permit: Permit) -> None:
        """The other side answered, whatever it said."""
        if permit != self._generation:
            return
        self._failures = 0
        first, self._answered = not self._answered, True
        if self._state is State.HALF_OPEN:
            self._enter(State.CLOSED)
        elif first:
            self._tell_answer(State.CLOSED)

    def fail(self, permit: Permit) -> None:
        """The other side was silent, broken or not understood."""
        if permit != self._generation:
            return
        self._failures += 1
        if self._state is State.HALF_OPEN or self._failures >= self._failures_max:
            self._opened_at = self._monotonic()
            self._enter(State.OPEN)

    def abandon(self, permit: Permit) -> None:
        """The caller gave up before anything was known; this says nothing about the other side."""
        if permit == self._generation:
            self._probing = False

    def retry_after_s(self) -> float:
        """Return after how many seconds a refused caller may find the breaker half-open."""
        if self._state is not State.OPEN:
            return 0.0
        return max(0.0, self._opened_at + self._open_s - self._monotonic())

    def _enter(self, state: State) -> None:
        self._state = state
        self._failures = 0
        self._probing = False
        self._generation += 1
        self._changed(state)
