"""Header names that are not UTF-8: read tolerantly, dead-lettered, neighbours untouched."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from app import topics
from app.delivery import aiokafka_seams as seams
from app.delivery.decoding import decode_records
from app.delivery.record_batch import NAME_BYTES_KEPT, MisnamedRecord, find_batch, records
from app.messages import Cause, OrderCancel, emit
from tests.delivery.raw_batches import APPEND_TIME, CONTROL, GZIP, RawRecord, batch

pytestmark = pytest.mark.unit

TP = TopicPartition("order.cancel", 3)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ORDER = "9d9d3f0e-3a52-4f0c-8a55-0f6d2f9d8f10"
StockRecords, StockMemory = fetcher.PartitionRecords, fetcher.MemoryRecords
BAD = RawRecord(b"k", b"v", [(b"\xffa", b"1"), (b"b\xc3", None), (b"fine", b"2")])


def good(number: int) -> RawRecord:
    """A readable record."""
    return RawRecord(b"%d" % number, b"value", [(b"n", b"%d" % number)])


def stock(raw: bytes, offset: int = 0) -> Any:
    """What aiokafka makes of a fetch response."""
    return StockRecords(TP, StockMemory(raw), [], offset, None, None, True, 0)


def tolerant(raw: bytes, offset: int = 0) -> Any:
    """What our consumer makes of it."""
    return seams._TolerantRecords(TP, seams._RawRecords(raw), [], offset, None, None, True, 0)


def offsets(found: list[ConsumerRecord]) -> list[int]:
    """Where the records stand."""
    return [record.offset for record in found]


raw_records = st.lists(
    st.builds(
        RawRecord,
        st.none() | st.binary(max_size=80),
        st.none() | st.binary(max_size=200),
        st.lists(
            st.tuples(st.text(max_size=5).map(str.encode), st.none() | st.binary(max_size=5)),
            max_size=4,
        ),
    ),
    min_size=1,
    max_size=5,
)


@given(raw_records, st.sampled_from([0, GZIP, APPEND_TIME, GZIP | APPEND_TIME]))
def test_readable_batches_read_the_same_as_by_aiokafka(made: list[RawRecord], flags: int) -> None:
    """Null keys, values and header values, empty and repeated names, gzip, both clocks: no
    difference to aiokafka's own reader."""
    raw = batch(made, base_offset=7, attributes=flags)
    expected = list(stock(raw, 7))
    assert list(records(find_batch(raw, 0, 7), TP)) == expected
    assert list(tolerant(raw, 7)) == expected


@pytest.mark.parametrize("flags", [0, GZIP])
def test_misnamed_record_comes_out_among_its_neighbours(flags: int) -> None:
    """aiokafka refuses the batch for good; here all records come, in order, raw bytes kept."""
    raw = batch([good(0), BAD, good(2)], base_offset=40, attributes=flags)
    with pytest.raises(UnicodeDecodeError):
        list(stock(raw, 40))
    reader = tolerant(raw, 40)
    found = list(reader)
    assert offsets(found) == [40, 41, 42]
    assert reader.next_fetch_offset == 43
    assert [type(one) for one in found] == [ConsumerRecord, MisnamedRecord, ConsumerRecord]
    assert (found[1].key, found[1].value) == (b"k", b"v")
    assert found[1].headers == (("\\xffa", b"1"), ("b\\xc3", None), ("fine", b"2"))


def test_reading_goes_on_behind_misnamed_batches() -> None:
    """Good, control and further bad batches behind a bad one are read as ever; a truncated last
    batch is left to the next fetch."""
    raw = b"".join(
        [
            batch([good(0), good(1)]),
            batch([BAD], base_offset=2),
            batch([good(3)], base_offset=3),
            batch([RawRecord(b"\0\0\0\1", b"")], base_offset=4, attributes=CONTROL),
            batch([BAD, good(6)], base_offset=5),
            batch([BAD], base_offset=7),
            batch([good(8)], base_offset=8),
            batch([good(9)], base_offset=9)[:-1],
        ]
    )
    reader = tolerant(raw)
    assert offsets(list(reader)) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert reader.next_fetch_offset == 9


def test_fetch_may_begin_within_a_misnamed_batch() -> None:
    """Records before the fetch offset are not handed out again."""
    raw = batch([BAD, good(1), BAD, good(3)])
    assert offsets(list(tolerant(raw, 2))) == [2, 3]
    assert offsets(list(tolerant(raw, 3))) == [3]


def test_many_misnamed_batches_are_read_in_one_pass() -> None:
    """Each search goes on where the last one ended, so a flood costs linear time."""
    raw = b"".join(batch([BAD], base_offset=n) for n in range(3000))
    reader = tolerant(raw)
    assert offsets(list(reader)) == list(range(3000))
    assert reader._raw_position == len(raw)


def test_misnamed_records_are_logged_once_per_fetch(caplog: pytest.LogCaptureFixture) -> None:
    """A changelog record has no dead letter, so the log says where names were not UTF-8."""
    with caplog.at_level(logging.WARNING):
        list(tolerant(batch([BAD], base_offset=5) + batch([BAD], base_offset=6), 5))
    said = [line for line in caplog.records if "misnamed" in line.getMessage()]
    assert len(said) == 1


def test_wrong_checksum_is_raised_after_what_stands_before_it() -> None:
    """Corrupt bytes are never read and never skipped: the good records before them come first, the
    next fetch raises."""
    corrupt = bytearray(batch([good(1)], base_offset=1))
    corrupt[-1] ^= 1
    behind = batch([good(2)], base_offset=2)
    reader = tolerant(batch([good(0)]) + bytes(corrupt) + behind)
    assert offsets(list(reader)) == [0]
    assert reader.next_fetch_offset == 1
    with pytest.raises(CorruptRecordException):
        list(tolerant(bytes(corrupt) + behind, 1))


def command(*more: tuple[bytes, bytes | None]) -> RawRecord:
    """A valid command with further headers."""
    body = OrderCancel(order_id=ORDER, reason="r", requested_by="customer")
    spec = topics.ORDER_CANCEL
    made = emit(Cause(ORDER, ORDER), spec, body, event_id=ORDER, now=NOW, source="/test")
    return RawRecord(made.key, made.value, [*((n.encode(), v) for n, v in made.headers), *more])


def test_misnamed_record_is_dead_lettered_with_origin_and_reason() -> None:
    """A command that is valid but for one header name becomes a dead letter, its neighbour an
    event."""
    raw = batch([command((b"\xfe", b"x")), command()], base_offset=9)
    events, dead = decode_records(tolerant(raw, 9), role="orchestrator", now=NOW)
    assert [event.offset for event in events] == [10]
    ((letter,),) = [one.outputs for one in dead]
    headers = dict(letter.headers)
    assert (letter.topic, letter.partition) == ("order.cancel.dlt", TP.partition)
    assert (letter.key, letter.value) == command()[:2]
    assert headers["\\xfe"] == b"x"
    assert headers["x-error-reason"] == b"bad_header"
    assert headers["x-original-topic"] == b"order.cancel"
    assert headers["x-original-offset"] == b"9"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (((b"", b"x"),), None),
        (((b"note", None),), None),
        (((b"note", b"1"), (b"note", b"2")), None),
        (((b"traceparent", None),), None),
        (((b"ce_id", None),), b"duplicate_header"),
        (((b"x-attempt", None),), b"bad_header"),
        (((b"x-retry-role", None),), None),
    ],
)
def test_odd_headers_are_ignored_or_poison(
    extra: tuple[tuple[bytes, bytes | None], ...], reason: bytes | None
) -> None:
    """Empty names, null values and repeated names of others cost nothing; ours are poison."""
    events, dead = decode_records(tolerant(batch([command(*extra)])), role="r", now=NOW)
    assert len(events) == (reason is None)
    assert [dict(one.outputs[0].headers)["x-error-reason"] for one in dead] == [
        one for one in [reason] if one is not None
    ]


@pytest.mark.parametrize("length", [1, NAME_BYTES_KEPT, NAME_BYTES_KEPT + 1, 3000])
def test_dead_letter_of_any_record_fits_its_topic(length: int) -> None:
    """Names grow when escaped, but no record grows by more than its dead-letter topic allows."""
    one = RawRecord(b"k", b"v", [(b"\xff" * length, b"")] * 64)
    before = sum(len(name) for name, _ in one.headers)
    _, dead = decode_records(tolerant(batch([one])), role="r", now=NOW)
    (letter,) = dead[0].outputs
    after = sum(len(name) + len(content) for name, content in letter.headers)
    assert after - before < topics.FAILURE_BYTES_MAX - 4096


def test_failed_records_have_room_on_every_topic_they_may_go_to() -> None:
    """Original, tier, dead letters: each takes more than the one before, and a fetch takes all."""
    ordinary = topics.ORDER_CREATED.bytes_max
    tiers = {spec.bytes_max for spec in topics.RETRY_TIERS.values()}
    letters = {spec.bytes_max for spec in topics.DEAD_LETTER_TOPICS.values()}
    assert {ordinary + topics.FAILURE_BYTES_MAX} == tiers
    assert {max(tiers) + topics.FAILURE_BYTES_MAX} == letters
    assert max(letters) < topics.FETCH_BYTES_MAX
    config = topics.CATALOGUE["order.created.dlt"].config()
    assert config["max.message.bytes"] == str(max(letters))
