"""One subject under load: its fleet, its group log, its numbered events."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from time import monotonic, sleep
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.lab.process import LabError
from chaos.ledger.events import Load
from chaos.ledger.fleet import Fleet
from chaos.ledger.group import GroupWatch
from chaos.ledger.topic import REQUEST_TIMEOUT_S, committed_offsets
from chaos.records import end_offsets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chaos.ledger.group import Generation, Partition
    from chaos.ledger.subject import Launch, Subject

CREATE_S = 20.0


@dataclass(frozen=True)
class Limits:
    """Times of one subject's group, in seconds; equal for every subject of a campaign."""

    session_timeout_s: float = 6.0
    rebalance_timeout_s: float = 12.0
    stop_grace_s: float = 15.0
    recovery_s: float = 45.0
    quiesce_s: float = 60.0


class Trial:
    """A subject with two worker names; `start()` before use, `close()` at the end."""

    def __init__(
        self,
        subject: Subject,
        bootstrap: str,
        directory: Path,
        limits: Limits,
        on_death: Callable[[Launch], None] | None = None,
    ) -> None:
        self.subject, self.limits, self._bootstrap = subject, limits, bootstrap
        self.names = (f"{subject.name}-1", f"{subject.name}-2")
        self.fleet = Fleet(subject, directory, on_death)
        self.watch = GroupWatch(bootstrap, subject.group)
        create_topics(bootstrap, subject)
        self.load = Load(bootstrap, subject.input_topic, subject.partitions, subject.encode)

    def start(self, timeout_s: float) -> None:
        """Returns when both workers run and own every partition between them.

        Raises TimeoutError when the group does not form within `timeout_s`.
        """
        self.watch.start()
        for name in self.names:
            self.fleet.start(name)
        if not self.watch.wait(self.settled, timeout_s):
            raise TimeoutError(
                f"{self.subject.name}: the group did not form: {self.watch.latest};"
                f" logs end with\n{self.fleet.log_tail()}"
            )

    def close(self) -> None:
        """Ends load, processes and watch."""
        self.load.close()
        self.fleet.close()
        self.watch.close()
        self.subject.close()

    @property
    def inputs(self) -> frozenset[Partition]:
        """Partitions the subject's group consumes."""
        topics = (self.subject.input_topic, self.subject.middle_topic)
        return frozenset((t, p) for t in topics for p in range(self.subject.partitions))

    def settled(self, generation: Generation) -> bool:
        """Every partition is owned, and by the processes that run now."""
        owners = [generation.of_client(self.fleet.client_id(w)) for w in self.fleet.workers]
        members = sum(len(found) for found in owners)
        owned = {tp for found in owners for member in found for tp in member.assignment}
        return all(owners) and len(generation.members) == members and owned >= self.inputs

    def recovered(self, since_s: float) -> float | None:
        """Seconds from `since_s` until every partition's committed offset moved, None past limit.

        Needs load on every partition.
        """
        while monotonic() - since_s < self.limits.recovery_s:
            latest = self.watch.latest
            moved = self.watch.committed_since(since_s)
            if latest is not None and self.settled(latest) and moved >= self.inputs:
                return monotonic() - since_s
            sleep(0.05)
        return None

    def in_flight(self) -> int:
        """Events the broker acknowledged that have not left the second stage."""
        return max(0, len(self.load.acked) - self.subject.finished())

    def quiesce(self) -> float | None:
        """Stop the load; seconds until every offset was committed, None past the limit."""
        self.load.rate(0)
        self.load.flush(self.limits.quiesce_s)
        since_s = monotonic()
        before: dict[Partition, int] = {}
        topics = (self.subject.input_topic, self.subject.middle_topic)
        places = list(product(topics, range(self.subject.partitions)))
        while monotonic() - since_s < self.limits.quiesce_s:
            try:
                done = committed_offsets(self._bootstrap, self.subject.group)
                ends = end_offsets(self._bootstrap, places, REQUEST_TIMEOUT_S)
            except (KafkaException, LabError):
                ends, done = {}, {}
            if ends and ends == before and all(done.get(tp, 0) >= end for tp, end in ends.items()):
                return monotonic() - since_s
            before = ends
            sleep(0.3)
        return None


def create_topics(bootstrap: str, subject: Subject) -> None:
    """Create the subject's topics. Raises KafkaException when one exists or cannot be created."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    wanted = [
        NewTopic(plan.name, plan.partitions, 1, config=dict(plan.config))
        for plan in subject.topics()
    ]
    for answer in admin.create_topics(wanted, request_timeout=CREATE_S).values():
        answer.result()
