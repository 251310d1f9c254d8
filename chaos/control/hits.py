"""What a rule has struck in one worker: the decision passing by passing, with its limits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from chaos.control.rule import STEP_TOPICS, Rule, draw


class Hits:
    """One rule in force in one worker; the seam asks `strikes` of everything that passes.

    `seen` counts what was in scope, `struck` what was hit. After `end`, or past the rule's lease,
    nothing is struck any more, even by a seam that is still in place.
    """

    __slots__ = ("_clock", "_ends_at_s", "_step_topics", "_untold", "rule", "seen", "struck")

    def __init__(
        self,
        rule: Rule,
        *,
        ends_at_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rule = rule
        self.seen = 0
        self.struck = 0
        self._clock = clock
        self._ends_at_s = ends_at_s
        self._step_topics = frozenset(STEP_TOPICS.get(rule.scope.step, ()))
        self._untold: Counter[str] = Counter()

    def strikes(
        self,
        topic: str = "",
        key: bytes = b"",
        attempt: int = 0,
        *,
        event: str = "",
        type: str = "",  # noqa: A002  # as the rule's scope calls it
        route: str = "",
        point: str = "",
        place: str = "",
    ) -> bool:
        """Whether the fault strikes this passing; counts it.

        `key` is the order's (or a request's) key, `attempt` its delivery's number; `event` tells
        apart what shares topic, key and attempt. `type`, `route` and `point` are compared with the
        rule's scope. `place` is the bounded name under which the hit is reported.
        """
        rule = self.rule
        if not self._in_scope(topic, type, route, point) or self._clock() >= self._ends_at_s:
            return False
        of_key, of_this = draw(rule.seed, rule.id, topic, key, attempt, event)
        if of_key >= rule.share_max:
            return False
        self.seen += 1
        if rule.nth and self.seen != rule.nth:
            return False
        if rule.times and self.struck >= rule.times:
            return False
        if of_this >= rule.p:
            return False
        self.hit(place or topic or route or point)
        return True

    def hit(self, place: str) -> None:
        """Count a strike that is no passing's: a burnt second, a block of memory, a pause."""
        self.struck += 1
        self._untold[place] += 1

    def luck(self, topic: str, key: bytes, attempt: int = 0, *, event: str = "") -> float:
        """Return a number in [0, 1) for how a strike turns out, such as its delay: repeatable."""
        return draw(self.rule.seed, f"{self.rule.id}\x00how", topic, key, attempt, event)[1]

    @property
    def untold(self) -> int:
        """How many strikes nobody has taken yet."""
        return self._untold.total()

    def take(self) -> dict[str, int]:
        """Return the strikes by place since the last call."""
        told, self._untold = dict(self._untold), Counter()
        return told

    def end(self) -> None:
        """From now on nothing is struck."""
        self._ends_at_s = float("-inf")

    def _in_scope(self, topic: str, type_: str, route: str, point: str) -> bool:
        scope = self.rule.scope
        if scope.topic and scope.topic != topic:
            return False
        if self._step_topics and topic not in self._step_topics:
            return False
        return (
            (not scope.type or scope.type == type_)
            and (not scope.route or scope.route == route)
            and (not scope.point or scope.point == point)
        )
