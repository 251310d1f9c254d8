"""What the plan's faults do at each place where something can go wrong.

Every question is asked at one place of the simulated edges. Answers are "no" once `end` was called:
from then on the system must come to rest.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from app import topics
from app.topics import RETRY_TIERS

if TYPE_CHECKING:
    from chaos.simulation.log import Sent
    from chaos.simulation.plan import Plan
    from chaos.simulation.world import World

REDRIVEN = frozenset(
    spec.name
    for spec in (
        topics.PAYMENT_REQUESTED,
        topics.PAYMENT_REFUND,
        topics.PAYMENT_RESULT,
        topics.INVENTORY_REQUESTED,
        topics.INVENTORY_RELEASE,
        topics.INVENTORY_COMMIT,
        topics.INVENTORY_RESULT,
        topics.SHIPPING_REQUESTED,
        topics.SHIPPING_CANCEL,
        topics.SHIPPING_RESULT,
    )
)
"""Topics whose records a saga asks for again when they do not come."""
CONSUMED = REDRIVEN | {
    topics.ORDER_CREATED.name,
    topics.ORDER_CANCEL.name,
    *(tier.name for tier in RETRY_TIERS.values()),
}

DUPLICATED, LATE, DROPPED = 0.15, 0.2, 0.08
CONTENDED, ANSWER_LOST = 0.04, 0.02
REFUSED = 0.25


class Faults:
    """The active faults of one run."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._kinds = frozenset(plan.faults)
        self._randoms = {
            kind: Random(plan.seed * 1009 + number)
            for number, kind in enumerate((*plan.faults, "poll", "request"))
        }
        self.held_back = 0
        self.dropped: set[tuple[str, bytes | None, bytes | None]] = set()

    def has(self, kind: str) -> bool:
        """Whether this kind of fault is active."""
        return kind in self._kinds

    def random(self, kind: str) -> Random:
        """The generator of one kind."""
        return self._randoms[kind]

    def end(self) -> None:
        """No more faults."""
        self._kinds = frozenset()

    def _strikes(self, kind: str, chance: float) -> bool:
        return kind in self._kinds and self._randoms[kind].random() < chance

    # The log

    def intercepts(self, topic: str, partition: int, sent: Sent) -> bool:
        """Whether an acknowledged record is not written now; may also plan a duplicate."""
        if topic not in CONSUMED or not self._kinds:
            return False
        if self._strikes("duplicate", DUPLICATED):
            delay_s = self._randoms["duplicate"].choice((0.001, 0.05, 1.0, 8.0, 20.0))
            self._world.note("duplicate", topic, sent.key, delay_s)
            self._deliver_later(delay_s, topic, partition, sent)
        if topic in REDRIVEN and self._strikes("drop", DROPPED):
            self._world.note("drop", topic, sent.key)
            self.dropped.add((topic, sent.key, sent.value))
            return True
        if self._strikes("late", LATE):
            delay_s = self._randoms["late"].choice((0.05, 0.5, 2.0, 5.0, 12.0))
            self._world.note("late", topic, sent.key, delay_s)
            self._deliver_later(delay_s, topic, partition, sent)
            return True
        return False

    def _deliver_later(self, delay_s: float, topic: str, partition: int, sent: Sent) -> None:
        self.held_back += 1
        self._world.loop.later(delay_s, self._deliver, topic, partition, sent)

    def _deliver(self, topic: str, partition: int, sent: Sent) -> None:
        self.held_back -= 1
        self._world.log.append(topic, partition, sent)

    def forgets_request(self) -> bool:
        """Whether a produce request is lost with the process that sent it."""
        return self._randoms["request"].random() < 0.5

    def first_fetch(self, position: int, end: int) -> int:
        """Where the first fetch of an assignment starts: a stale one brings any records there are,
        those behind the position when there are such."""
        if end == 0 or not self._strikes("seek-race", 0.5):
            return position
        least = min(position + 1, end - 1) if position < end else 0
        return least + int(self._randoms["seek-race"].random() * (end - least))

    def poll_records(self) -> int:
        """How many records of a partition one poll brings at most."""
        return 1 + int(self._randoms["poll"].random() ** 2 * 12)

    def recovered_records(self, count: int) -> int:
        """How much of a changelog of `count` records is recovered."""
        if not self._strikes("table", 0.7):
            return count
        kept = int(self._randoms["table"].random() * (count + 1))
        self._world.note("table", kept, count)
        return kept

    # The database

    def contends(self) -> bool:
        """Whether a statement is the victim of a deadlock."""
        return self._strikes("contention", CONTENDED)

    def loses_answer(self) -> bool:
        """Whether a round trip's answer is lost with its connection."""
        return self._strikes("lost-answer", ANSWER_LOST)

    # The gateway

    def refuses_connection(self) -> bool:
        """Whether the gateway cannot be reached."""
        return self._strikes("gateway-error", REFUSED)

    # Time

    def slows(self) -> bool:
        """Whether a message takes very long."""
        return self._strikes("slow", 0.03)
