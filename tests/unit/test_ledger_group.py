"""The rebalance ledger's reader of the broker's group log: bytes in, facts out."""

from __future__ import annotations

import struct

import pytest

from chaos.ledger.group import (
    GroupLogError,
    decode_assignment,
    decode_generation,
    partition_of,
)

pytestmark = pytest.mark.unit


def text(value: str | None) -> bytes:
    """A nullable string as Kafka writes it."""
    if value is None:
        return struct.pack(">h", -1)
    return struct.pack(">h", len(value.encode())) + value.encode()


def blob(value: bytes) -> bytes:
    """A byte field as Kafka writes it."""
    return struct.pack(">i", len(value)) + value


def assignment(*topics: tuple[str, list[int]], user_data: bytes = b"") -> bytes:
    """A consumer protocol assignment, version 0."""
    parts = [struct.pack(">hi", 0, len(topics))]
    for topic, numbers in topics:
        parts += [text(topic), struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)]
    return b"".join([*parts, blob(user_data)])


def generation(version: int, number: int, *members: tuple[str, str, bytes]) -> bytes:
    """A group metadata value of `version` with (member id, client id, assignment) members."""
    parts = [struct.pack(">h", version), text("consumer"), struct.pack(">i", number)]
    parts += [text("faust"), text("leader")]
    if version >= 2:
        parts.append(struct.pack(">q", 1_700_000_000_000))
    parts.append(struct.pack(">i", len(members)))
    for member_id, client_id, owned in members:
        parts.append(text(member_id))
        if version >= 3:
            parts.append(text(None))
        parts += [text(client_id), text("/127.0.0.1")]
        if version >= 1:
            parts.append(struct.pack(">i", 12_000))
        parts += [struct.pack(">i", 6_000), blob(b"subscription"), blob(owned)]
    return b"".join(parts)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_every_supported_version_tells_number_members_and_assignments(version: int) -> None:
    """Members, client ids and partitions come out of each layout the broker may have written."""
    one = assignment(("in", [0, 2]), ("out", [1]), user_data=b"faust's own")
    two = assignment(("in", [1]))
    value = generation(version, 7, ("m-1", "probe-1.a", one), ("m-2", "probe-2.b", two))
    decoded = decode_generation(value, 1.5)
    assert decoded.number == 7
    assert decoded.seen_at_s == 1.5
    assert [(m.member_id, m.client_id) for m in decoded.members] == [
        ("m-1", "probe-1.a"),
        ("m-2", "probe-2.b"),
    ]
    assert decoded.members[0].assignment == {("in", 0), ("in", 2), ("out", 1)}
    assert decoded.assigned() == {("in", 0), ("in", 1), ("in", 2), ("out", 1)}


def test_a_member_without_assignment_owns_nothing() -> None:
    """Between join and sync the broker logs members with an empty assignment."""
    decoded = decode_generation(generation(3, 8, ("m-1", "probe-1", b"")), 0.0)
    assert decoded.members[0].assignment == frozenset()
    assert decode_assignment(b"") == frozenset()


def test_an_empty_group_is_a_generation_without_members() -> None:
    """When the last member leaves the broker still writes a generation."""
    assert decode_generation(generation(3, 9), 0.0).members == ()


def test_an_unknown_version_is_refused() -> None:
    """A layout this reader does not know must never be guessed: a proof would rest on it."""
    with pytest.raises(GroupLogError, match="version 4"):
        decode_generation(struct.pack(">h", 4), 0.0)


def test_client_ids_match_whole_names_only() -> None:
    """Worker probe-1 is not worker probe-10, but is its incarnations and client suffixes."""
    names = ["probe-1", "probe-1.probe-1-3", "probe-1-2", "probe-10", "xprobe-1"]
    value = generation(3, 1, *((f"m-{n}", n, b"") for n in names))
    found = decode_generation(value, 0.0).of_client("probe-1")
    assert [m.client_id for m in found] == ["probe-1", "probe-1.probe-1-3", "probe-1-2"]


@pytest.mark.parametrize(
    ("group", "hash_code"),
    [
        ("", 0),
        ("hello", 99162322),
        ("hello world", 1794106052),
        ("The quick brown fox jumps over the lazy dog", -609428141),
    ],
)
def test_a_group_is_logged_where_java_hashes_it(group: str, hash_code: int) -> None:
    """The partition is abs(String.hashCode) modulo the partition count; codes from a JVM."""
    assert partition_of(group, 50) == abs(hash_code) % 50


def test_the_smallest_java_integer_counts_as_zero() -> None:
    """Integer.MIN_VALUE has no absolute value; Kafka takes 0 (Utils.abs)."""
    assert partition_of("polygenelubricants", 50) == 0
