"""How far a group is behind, in records and in time: pure.

A partition's end is noted round by round. The record at an offset was appended between the last
round that saw the end below it and the first that saw it above, so its age is known as exactly as
rounds follow each other, and nothing has to be read for it. What was there before the first round
has no moment here: its record must be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SAMPLES_MAX = 256


class Sample(NamedTuple):
    """A partition's `end` and when it was seen to be so, first and last."""

    first_s: float
    last_s: float
    end: int


class History:
    """The ends of one partition, ascending; bounded, the older the coarser."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def note(self, at_s: float, end: int) -> None:
        """The partition ended at `end` at `at_s`; a lower end than before begins anew."""
        samples = self._samples
        if samples and end < samples[-1].end:
            samples.clear()
        if samples and end == samples[-1].end:
            samples[-1] = samples[-1]._replace(last_s=at_s)
            return
        samples.append(Sample(at_s, at_s, end))
        if len(samples) > SAMPLES_MAX:
            half = len(samples) // 2
            del samples[1:half:2]

    def moment_s(self, offset: int) -> float | None:
        """When the record at `offset` was appended; None when it was there before the first note,
        or is not there yet."""
        before: Sample | None = None
        for sample in self._samples:
            if sample.end > offset:
                if before is None:
                    return None
                share = (offset - before.end) / (sample.end - before.end)
                return before.last_s + share * (sample.first_s - before.last_s)
            before = sample
        return None

    def forget_below(self, offset: int) -> None:
        """No record below `offset` will be asked for any more."""
        kept = [sample for sample in self._samples if sample.end > offset]
        self._samples = self._samples[max(0, len(self._samples) - len(kept) - 1) :]


class Standing(NamedTuple):
    """Where a group stands in one partition: the next record it needs, and the end."""

    position: int
    end: int

    @property
    def records(self) -> int:
        """What it has not committed."""
        return max(0, self.end - self.position)


def standing(committed: int | None, begin: int, end: int) -> Standing:
    """A group without a committed offset begins at the beginning; what retention has deleted will
    not be read by anybody."""
    return Standing(max(begin, 0 if committed is None else committed), end)


class TopicLag(NamedTuple):
    """A role's lag in one topic; `age_s` is None when the age of its oldest record is unknown."""

    role: str
    topic: str
    records: int
    age_s: float | None


def topic_lag(
    role: str,
    topic: str,
    standings: Mapping[int, Standing],
    moments_s: Mapping[int, float | None],
    now_s: float,
) -> TopicLag:
    """Add up a topic's partitions; `moments_s` says when the oldest record of each came."""
    records = sum(one.records for one in standings.values())
    oldest: list[float | None] = [
        moments_s.get(partition) for partition, one in standings.items() if one.records
    ]
    known = [moment for moment in oldest if moment is not None]
    age_s: float | None = 0.0
    if oldest:
        age_s = max(0.0, now_s - min(known)) if len(known) == len(oldest) else None
    return TopicLag(role, topic, records, age_s)
