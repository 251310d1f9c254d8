"""Fault `duplicates`: records of the past are published again, the same bytes in another order."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar

from app.topics import MESSAGE_TOPICS
from chaos import records
from chaos.nemesis.faults.fault import Fault, Run, Unproved
from chaos.nemesis.faults.poison import consumed
from chaos.nemesis.world import World
from chaos.records import Record

TARGETS = ("commands-and-events", "results")
RESULT = ".result"
POISONED = b"/nemesis"


class Duplicates(Fault):
    """Old commands and events, or old results, come once more and out of order: late replies too.

    Most of their sagas have moved on or ended meanwhile.
    """

    name = "duplicates"
    aims = "commands-and-events, results"
    needs = "something published before"
    recovers_from = "none"
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"count": 200, "newest": 500})

    def targets(self, world: World) -> list[str]:
        return list(TARGETS)

    def start(self, run: Run) -> None:
        results = run.target == TARGETS[1]
        topics = [
            one
            for one in consumed(run.world) & MESSAGE_TOPICS.keys()
            if one.endswith(RESULT) is results
        ]
        newest = int(run.params["newest"])
        there = [
            one
            for one in records.read(run.world.bootstrap, topics, last=newest)
            if dict(one.headers).get("ce_source", POISONED) != POISONED
        ]
        if not there:
            raise Unproved(f"nothing was published to {sorted(topics)} yet")
        again = run.random.sample(there, min(len(there), int(run.params["count"])))
        run.notes["again"] = again
        run.notes["written"] = records.publish(run.world.bootstrap, again)

    def prove(self, run: Run) -> str:
        again: list[Record] = run.notes["again"]
        written = {(one.topic, one.partition, one.offset): one for one in run.notes["written"]}
        found = {
            (one.topic, one.partition, one.offset): one
            for one in records.read(run.world.bootstrap, {one.topic for one in again})
        }
        wrong = [place for place, one in written.items() if found.get(place) != one]
        if wrong:
            raise Unproved(f"{len(wrong)} of {len(written)} repeats are not as they were")
        order = [(one.topic, one.partition, one.offset) for one in again]
        moved = sum(before > after for before, after in pairwise(order))
        return f"{len(written)} records once more, {moved} of them behind a later one"
