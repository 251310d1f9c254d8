"""The consumer group as the broker wrote it down: an independent reader of `__consumer_offsets`.

Guarantees: generation, members, assignments and committed offsets exactly as the group coordinator
logged them, in log order. Does not see a change before the broker has appended it, and knows only
what happened since the topic was last compacted.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep

from confluent_kafka import Consumer, KafkaException, TopicPartition

INTERNAL_TOPIC = "__consumer_offsets"
GROUP_METADATA_KEY_VERSION = 2
LAST_FIXED_VALUE_VERSION = 3

Partition = tuple[str, int]


class GroupLogError(RuntimeError):
    """The broker wrote group metadata in a version this reader does not know."""


@dataclass(frozen=True)
class Member:
    """One member of a group generation."""

    member_id: str
    client_id: str
    assignment: frozenset[Partition]


@dataclass(frozen=True)
class Generation:
    """One group metadata record: the group after a rebalance or a departure."""

    number: int
    members: tuple[Member, ...]
    seen_at_s: float

    def assigned(self) -> frozenset[Partition]:
        """Every partition that some member owns."""
        return frozenset(tp for member in self.members for tp in member.assignment)

    def of_client(self, prefix: str) -> tuple[Member, ...]:
        """Members whose client id is `prefix` or starts with `prefix` and a separator."""
        return tuple(
            m
            for m in self.members
            if m.client_id == prefix or m.client_id.startswith((prefix + "-", prefix + "."))
        )


class _Reader:
    """Cursor over Kafka's fixed (non-flexible) record encoding."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return int(value)

    def int16(self) -> int:
        return self._take(_INT16)

    def int32(self) -> int:
        return self._take(_INT32)

    def int64(self) -> int:
        return self._take(_INT64)

    def text(self) -> str | None:
        size = self.int16()
        return None if size < 0 else self._slice(size).decode()

    def blob(self) -> bytes:
        return self._slice(max(0, self.int32()))

    def _slice(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


_INT16, _INT32, _INT64 = struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")


def partition_of(group: str, partitions: int) -> int:
    """Partition of the group log that holds `group`, by Java's String.hashCode as in the broker."""
    code = 0
    for unit in struct.unpack(f">{len(group)}H", group.encode("utf-16-be")):
        code = (31 * code + unit) & 0xFFFFFFFF
    signed = code - (1 << 32) if code & 0x80000000 else code
    # Java's smallest int has no absolute value: the broker takes 0 for it.
    return 0 if signed == -(1 << 31) else abs(signed) % partitions


def decode_assignment(data: bytes) -> frozenset[Partition]:
    """Partitions in a consumer protocol assignment; user data behind them is ignored."""
    if not data:
        return frozenset()
    reader = _Reader(data)
    reader.int16()
    owned: set[Partition] = set()
    for _ in range(reader.int32()):
        topic = reader.text() or ""
        owned.update((topic, reader.int32()) for _ in range(reader.int32()))
    return frozenset(owned)


def decode_generation(value: bytes, now_s: float) -> Generation:
    """A group metadata value. Raises GroupLogError on a version with another layout."""
    reader = _Reader(value)
    version = reader.int16()
    if not 0 <= version <= LAST_FIXED_VALUE_VERSION:
        raise GroupLogError(f"group metadata value version {version} is not supported")
    reader.text()
    number = reader.int32()
    reader.text()
    reader.text()
    if version >= 2:
        reader.int64()
    return Generation(number, tuple(_members(reader, version)), now_s)


def _members(reader: _Reader, version: int) -> Iterator[Member]:
    for _ in range(reader.int32()):
        member_id = reader.text() or ""
        if version >= 3:
            reader.text()
        client_id = reader.text() or ""
        reader.text()
        if version >= 1:
            reader.int32()
        reader.int32()
        reader.blob()
        yield Member(member_id, client_id, decode_assignment(reader.blob()))


@dataclass
class GroupWatch:
    """Follows one group in a thread of its own. `start()` before use, `close()` at the end."""

    bootstrap: str
    group: str
    generations: list[Generation] = field(default_factory=list)
    commits: dict[Partition, tuple[int, float]] = field(default_factory=dict)
    regressions: list[tuple[Partition, int, int]] = field(default_factory=list)
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"group-watch-{self.group}", daemon=True
        )

    def start(self, timeout_s: float = 20.0) -> None:
        """Returns when the group log exists and is being read."""
        consumer = Consumer(_config(self.bootstrap))
        deadline = monotonic() + timeout_s
        while True:
            try:
                # Asking for a group's offsets makes the broker create the internal topic.
                consumer.committed([TopicPartition("any", 0)], timeout=2)
                found = consumer.list_topics(INTERNAL_TOPIC, timeout=2).topics[INTERNAL_TOPIC]
            except KafkaException:
                found = None
            if found is not None and found.partitions and found.error is None:
                break
            if monotonic() > deadline:
                consumer.close()
                raise TimeoutError(f"{INTERNAL_TOPIC} does not exist after {timeout_s} s")
            sleep(0.1)
        self._partition = partition_of(self.group, len(found.partitions))
        self._consumer = consumer
        consumer.assign([TopicPartition(INTERNAL_TOPIC, self._partition, 0)])
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; what was read stays available."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    @property
    def latest(self) -> Generation | None:
        """Newest known generation, None before the first one."""
        self._check()
        return self.generations[-1] if self.generations else None

    @property
    def number(self) -> int:
        """Newest generation number, 0 before the first one."""
        latest = self.latest
        return latest.number if latest else 0

    def wait(self, fact: Callable[[Generation], bool], timeout_s: float) -> bool:
        """Whether `fact` holds for the newest generation within `timeout_s` seconds."""
        deadline = monotonic() + timeout_s
        while True:
            latest = self.latest
            if latest is not None and fact(latest):
                return True
            if monotonic() > deadline:
                return False
            sleep(0.05)

    def committed_since(self, since_s: float) -> frozenset[Partition]:
        """Partitions whose committed offset moved after the monotonic time `since_s`."""
        self._check()
        return frozenset(tp for tp, (_, at) in list(self.commits.items()) if at > since_s)

    def offsets(self) -> Mapping[Partition, int]:
        """Committed offset of every partition the group ever committed."""
        self._check()
        return {tp: offset for tp, (offset, _) in list(self.commits.items())}

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                for message in self._consumer.consume(500, 0.1):
                    if message.error() is None:
                        self._read(message.key(), message.value())
        except Exception as error:
            # Handed to whoever asks next: a watch that silently ends would void the proof.
            self.failure = error
        finally:
            self._consumer.close()

    def _read(self, key: bytes | None, value: bytes | None) -> None:
        if not key or value is None:
            return
        reader = _Reader(key)
        version = reader.int16()
        if reader.text() != self.group:
            return
        if version == GROUP_METADATA_KEY_VERSION:
            self.generations.append(decode_generation(value, monotonic()))
        elif version < GROUP_METADATA_KEY_VERSION:
            self._read_commit((reader.text() or "", reader.int32()), value)

    def _read_commit(self, tp: Partition, value: bytes) -> None:
        reader = _Reader(value)
        reader.int16()
        offset = reader.int64()
        before = self.commits.get(tp, (0, 0.0))[0]
        if offset < before:
            self.regressions.append((tp, before, offset))
        if offset != before or tp not in self.commits:
            self.commits[tp] = (offset, monotonic())


def _config(bootstrap: str) -> dict[str, str | int | bool]:
    return {
        "bootstrap.servers": bootstrap,
        "group.id": "ledger-group-watch",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "reconnect.backoff.max.ms": 500,
        "log_level": 0,
    }
