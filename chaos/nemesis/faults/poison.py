"""Fault `poison`: records that nobody can process, on every topic that somebody consumes."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from app.messages.envelope import VALUE_BYTES_MAX
from app.topics import CATALOGUE
from chaos import records
from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.world import World, role_of
from chaos.records import Headers, Record

DEAD = ".dlt"
DEAD_S = 60.0


class Poison(Fault):
    """Junk, wrong types, huge and null values, null keys, bad headers on every consumed topic."""

    name = "poison"
    aims = "topics"
    recovers_from = "none"
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"each": 1})

    def targets(self, world: World) -> list[str]:
        return ["topics"]

    def start(self, run: Run) -> None:
        readers = run.notes["readers"] = consumed(run.world)
        places = records.partitions(run.world.bootstrap, set(readers))
        topics = sorted({topic for topic, _ in places})
        poison = []
        for topic in topics:
            numbers = [number for one, number in places if one == topic]
            for kind in sorted(KINDS):
                for _ in range(int(run.params["each"])):
                    key = str(uuid.UUID(int=run.random.getrandbits(128), version=4)).encode()
                    poison.append(KINDS[kind](topic, run.random.choice(numbers), key))
        run.random.shuffle(poison)
        run.notes["topics"] = topics
        run.notes["written"] = records.publish(run.world.bootstrap, poison)

    def prove(self, run: Run) -> str:
        written: list[Record] = run.notes["written"]
        there = {
            (one.topic, one.partition, one.offset)
            for one in records.read(run.world.bootstrap, run.notes["topics"])
        }
        missing = [one for one in written if (one.topic, one.partition, one.offset) not in there]
        if missing:
            raise Unproved(f"{len(missing)} of {len(written)} records are not on their topics")
        return f"{len(written)} records of {len(KINDS)} kinds on {len(run.notes['topics'])} topics"

    def after(self, run: Run) -> str:
        """Each is a dead letter of each of its readers exactly once. Raises Unproved with what is
        not.
        """
        written: list[Record] = run.notes["written"]
        wanted = {
            (reader, one.topic, one.partition, one.offset)
            for one in written
            for reader in run.notes["readers"][one.topic]
        }
        seen("every poisoned record as a dead letter", lambda: wanted <= dead(run).keys(), DEAD_S)
        twice = {place: times for place, times in dead(run).items() if times > 1}
        if twice.keys() & wanted:
            raise Unproved(f"dead-lettered more than once: {twice}")
        return f"each of {len(written)} records is a dead letter exactly once for each reader"


def consumed(world: World) -> dict[str, set[str]]:
    """Topics that some worker reads and judges (dead letters are only indexed), with the roles that
    read each.
    """
    readers: dict[str, set[str]] = {}
    for worker in world.workers():
        for topic, _ in world.owned(worker):
            if not topic.endswith(DEAD):
                readers.setdefault(topic, set()).add(role_of(worker))
    return readers


def dead(run: Run) -> Counter[tuple[str, str, int, int]]:
    """How often each reader has put each origin into the dead-letter topics."""
    counts: Counter[tuple[str, str, int, int]] = Counter()
    topics = [f"{topic}{DEAD}" for topic in run.notes["topics"]]
    for one in records.read(run.world.bootstrap, topics):
        said = {name: (value or b"").decode("utf-8", "replace") for name, value in one.headers}
        topic = said.get("x-original-topic", "")
        if topic:
            place = (int(said["x-original-partition"]), int(said["x-original-offset"]))
            reader = said.get("x-retry-role", "").removesuffix(f"-{topic}")  # dlq-retry.1s
            counts[reader, topic, *place] += 1
    return counts


def headers_of(topic: str, event_id: str, version: str = "") -> Headers:
    """The headers of a good record of `topic`, or of one of a `version` that nobody knows."""
    bodies = CATALOGUE[topic].bodies
    kind = (bodies[0].ce_type() if bodies else "order.created.v1") + version
    texts = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": "/nemesis",
        "ce_type": kind,
        "ce_time": "2026-01-01T00:00:00Z",
        "ce_correlationid": event_id,
        "ce_causationid": event_id,
        "content-type": "application/json",
    }
    return tuple((name, text.encode()) for name, text in texts.items())


def _made(
    value: bytes | None, *, key: bool = True, headers: Headers | None = None, version: str = ""
) -> Any:
    def make(topic: str, partition: int, order: bytes) -> Record:
        said = headers_of(topic, order.decode(), version) if headers is None else headers
        return Record(topic, partition, order if key else None, value, said)

    return make


KINDS: Mapping[str, Callable[[str, int, bytes], Record]] = MappingProxyType(
    {
        "junk": _made(b"\x00\xff\xfejunk"),
        "truncated": _made(b'{"order_id":"00000000-0000-0000-0000-000000000000","total'),
        "wrong types": _made(b'{"order_id":17,"outcome":[],"lines":"none"}'),
        "no number": _made(b'{"order_id":NaN,"total_minor":-Infinity}'),
        "unknown version": _made(b"{}", version="9"),
        "huge": _made(b'{"order_id":"' + b"x" * VALUE_BYTES_MAX + b'"}'),
        "nested": _made(b"[" * 100_000),
        "null value": _made(None),
        "null key": _made(b"{}", key=False),
        "no headers": _made(b"{}", headers=()),
        "bad headers": _made(b"{}", headers=(("ce_id", b"\xff\xfe"), ("x-attempt", b"often"))),
    }
)
