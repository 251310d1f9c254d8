"""Where each partition stands: pure book-keeping of one worker's batch partitions.

Invariants
  W1  `next[tp]` is the offset that the next batch must start at. It is set only by `begin` (the
      committed offset, else the reset position) and moves only in `cut`. `guard` drops records
      below it; for a jump above it, it seeks back once and only then accepts a hole
      (compaction, retention, transaction markers).
  W2  everything below `done[tp]` was finished without a hole since W1 was set. Only `done` is
      ever committed, and only `finish` moves it.
Not here: epochs (W3), revocation (W4) and the lease (W5), which need the worker around them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from faust.types import TP


class HasOffset(Protocol):
    """All that the guard looks at in a record."""

    @property
    def offset(self) -> int: ...


R = TypeVar("R", bound=HasOffset)


class Span(NamedTuple):
    """Records `first` <= offset < `end` of one partition, cut into one batch."""

    tp: TP
    first: int
    end: int


class LogTruncated(RuntimeError):
    """The partition ends below the committed offset: the broker lost or recreated the topic."""


class BatchVanished(RuntimeError):
    """A batch finished although the one before it on its partition did not."""


class Positions:
    """Offsets of the assigned batch partitions, from assignment to revocation."""

    def __init__(self) -> None:
        self.next: dict[TP, int] = {}
        self.done: dict[TP, int] = {}
        self.stat: Counter[str] = Counter()
        self._committed: dict[TP, int] = {}
        self._rewound: dict[TP, int] = {}

    def begin(self, positions: Mapping[TP, int], committed: Mapping[TP, int]) -> None:
        """Start a new assignment: `positions` are absolute, `committed` lacks unknown ones."""
        for tp, offset in positions.items():
            self.next[tp] = self.done[tp] = offset
            self._committed[tp] = committed.get(tp, -1)

    def clear(self) -> None:
        """Forget everything: the assignment ended."""
        for book in (self.next, self.done, self._committed, self._rewound):
            book.clear()

    def guard(
        self, tp: TP, records: Sequence[R], highwater: int | None
    ) -> tuple[Sequence[R], int | None]:
        """Return (records to process, offset to seek to or None).

        `records` is not empty and rises by offset. Raises LogTruncated when the log ends below
        the position. Replaces Consumer._add_gap and _read_offset of Faust, which take the hole
        of a seek race for compaction and commit over it.
        """
        want = self.next[tp]
        if records[0].offset < want:
            kept = [record for record in records if record.offset >= want]
            self.stat["dropped"] += len(records) - len(kept)
            if not kept:
                if highwater is not None and highwater < want:
                    raise LogTruncated(
                        f"{tp.topic}-{tp.partition} ends at {highwater}, below offset {want}"
                    )
                return kept, want
            records = kept
        if records[0].offset > want:
            if self._rewound.get(tp) != want:
                self._rewound[tp] = want
                self.stat["rewound"] += 1
                return [], want
            self.stat["hole"] += 1
        return records, None

    def cut(self, tp: TP, records: Sequence[HasOffset]) -> Span:
        """Hand out `records` (as returned by `guard`) as one batch's span."""
        span = Span(tp, self.next[tp], records[-1].offset + 1)
        self.next[tp] = span.end
        return span

    def finish(self, spans: Iterable[Span]) -> int:
        """Move the watermark over finished spans; returns how many offsets it moved."""
        moved = 0
        for tp, first, end in spans:
            if self.done[tp] != first:
                raise BatchVanished(
                    f"{tp.topic}-{tp.partition}: {first}..{end} finished, watermark {self.done[tp]}"
                )
            self.done[tp] = end
            moved += end - first
        return moved

    def uncommitted(self) -> dict[TP, int]:
        """Watermarks that the group does not know yet. Offset 0 of a new group is left out."""
        return {
            tp: done
            for tp, done in self.done.items()
            if done > self._committed[tp] and not (done == 0 and self._committed[tp] < 0)
        }

    def note_committed(self, offsets: Mapping[TP, int]) -> None:
        """The group coordinator accepted `offsets`."""
        self._committed.update(offsets)

    def committed(self, tp: TP) -> int:
        """Last offset known to be committed, -1 when there is none."""
        return self._committed.get(tp, -1)
