"""The position guard and the watermark (W1, W2)."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from faust.types import TP

from app.delivery.positions import BatchVanished, LogTruncated, Positions, Span

pytestmark = pytest.mark.unit

A, B = TP("orders", 0), TP("orders", 1)


class Record(NamedTuple):
    offset: int


def records(*offsets: int) -> list[Record]:
    return [Record(offset) for offset in offsets]


def started(**offsets: int) -> Positions:
    """Partition A at an offset that the group knows."""
    positions = Positions()
    at = offsets.get("a", 10)
    positions.begin({A: at}, {A: at})
    return positions


def test_a_poll_at_the_position_is_taken_whole() -> None:
    """Records from the expected offset on pass the guard untouched."""
    poll = records(10, 11, 12)
    assert started().guard(A, poll, 13) == (poll, None)


def test_records_below_the_position_are_dropped() -> None:
    """What was handed out before is cut off, the rest of the poll goes on."""
    positions = started()
    assert positions.guard(A, records(8, 9, 10, 11), 12) == (records(10, 11), None)
    assert positions.stat["dropped"] == 2


def test_a_poll_wholly_below_the_position_seeks_to_it() -> None:
    """A poll of an older position is dropped and the fetch is moved to the expected offset."""
    assert started().guard(A, records(3, 4), 20) == ([], 10)


def test_a_jump_rewinds_once_and_is_then_a_hole() -> None:
    """A gap is first taken for a seek race; when it comes again it is a real hole."""
    positions = started()
    assert positions.guard(A, records(15, 16), 20) == ([], 10)
    assert positions.guard(A, records(15, 16), 20) == (records(15, 16), None)
    assert (positions.stat["rewound"], positions.stat["hole"]) == (1, 1)


def test_a_seek_race_heals_without_a_hole() -> None:
    """After the rewind the missing records come, and the guard saw no hole."""
    positions = started()
    positions.guard(A, records(15, 16), 20)
    kept, seek_to = positions.guard(A, records(10, 11, 12, 13, 14, 15, 16), 20)
    assert (len(kept), seek_to, positions.stat["hole"]) == (7, None, 0)


def test_each_position_is_rewound_anew() -> None:
    """A second gap at a later position gets a rewind of its own."""
    positions = started()
    for _ in range(2):
        kept, _seek_to = positions.guard(A, records(15), 20)
    positions.cut(A, kept)
    assert positions.guard(A, records(18), 20) == ([], 16)


def test_holes_inside_a_poll_pass() -> None:
    """Compaction and transaction markers leave holes within a poll; nothing is missing."""
    poll = records(10, 14, 15)
    assert started().guard(A, poll, 16) == (poll, None)


def test_a_truncated_log_is_an_error() -> None:
    """A log that ends below the committed offset was lost or recreated."""
    with pytest.raises(LogTruncated, match="orders-0 ends at 4, below offset 10"):
        started().guard(A, records(0, 1, 2, 3), 4)


def test_an_unknown_end_is_no_truncation() -> None:
    """Without a known end of the log an old poll only moves the fetch position."""
    assert started().guard(A, records(0), None) == ([], 10)


def test_the_watermark_moves_over_finished_spans_only() -> None:
    """Handing out moves the position, finishing moves the watermark."""
    positions = started()
    first, second = positions.cut(A, records(10, 11)), positions.cut(A, records(14))
    assert (first, second) == (Span(A, 10, 12), Span(A, 12, 15))
    assert (positions.next[A], positions.done[A]) == (15, 10)
    assert positions.finish([first]) == 2
    assert positions.finish([second]) == 3
    assert positions.done[A] == 15


def test_a_vanished_batch_is_an_error() -> None:
    """A batch that ends before the one ahead of it must not move the watermark."""
    positions = started()
    positions.cut(A, records(10))
    second = positions.cut(A, records(11))
    with pytest.raises(BatchVanished, match=r"11\.\.12 finished, watermark 10"):
        positions.finish([second])
    assert positions.done[A] == 10


def test_only_moved_watermarks_are_committed() -> None:
    """The group is told what it does not know, and nothing again."""
    positions = Positions()
    positions.begin({A: 10, B: 7}, {A: 10, B: 7})
    assert positions.uncommitted() == {}
    positions.finish([positions.cut(A, records(10, 11))])
    assert positions.uncommitted() == {A: 12}
    positions.note_committed({A: 12})
    assert positions.uncommitted() == {}
    assert positions.committed(A) == 12


def test_a_new_group_commits_a_reset_position_but_never_offset_0() -> None:
    """Where retention moved the start, the group learns it; offset 0 says nothing."""
    positions = Positions()
    positions.begin({A: 0, B: 7}, {})
    assert positions.uncommitted() == {B: 7}
    assert (positions.committed(A), positions.committed(B)) == (-1, -1)


def test_a_new_assignment_knows_nothing_of_the_last_one() -> None:
    """Positions, commits and rewinds end with their assignment."""
    positions = started()
    positions.guard(A, records(15), 20)
    positions.clear()
    assert (positions.next, positions.done, positions.committed(A)) == ({}, {}, -1)
    positions.begin({A: 10}, {A: 10})
    assert positions.guard(A, records(15), 20) == ([], 10)
