"""A mergeable sketch of a distribution: quantiles within 1 % of a value, in little space.

The mathematics are DDSketch's (Masson, Rim, Lee, VLDB 2019): values fall into buckets whose bounds
grow by a constant factor, so every value of a bucket is within `ACCURACY` of the bucket's middle.
Merging adds counts, so it is commutative and associative and may be done in any order. Of more than
`BUCKETS_MAX` buckets the lowest collapse into one: the error of low quantiles grows, that of high
ones does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil, isfinite, log

import msgspec

ACCURACY = 0.01
BUCKETS_MAX = 512
ZERO_MAX = 1e-6
"""Values up to this one are counted as 0."""

_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = log(_GAMMA)


class Sketch(msgspec.Struct, frozen=True):
    """Counts of values by bucket; `zero` counts the values that are next to nothing."""

    zero: int = 0
    buckets: dict[int, int] = {}

    @property
    def count(self) -> int:
        """How many values it holds."""
        return self.zero + sum(self.buckets.values())


EMPTY = Sketch()


def bucket_of(value: float) -> int | None:
    """Return the bucket of a value, None for one that counts as 0.

    Raises ValueError for a negative value, infinity and NaN.
    """
    if not isfinite(value) or value < 0:
        raise ValueError(f"no value of a sketch: {value}")
    return None if value <= ZERO_MAX else ceil(log(value) / _LOG_GAMMA)


def of(values: Iterable[float]) -> Sketch:
    """Return the sketch of `values`; raises ValueError as `bucket_of`."""
    zero, buckets = 0, dict[int, int]()
    for value in values:
        bucket = bucket_of(value)
        if bucket is None:
            zero += 1
        else:
            buckets[bucket] = buckets.get(bucket, 0) + 1
    return Sketch(zero, _collapsed(buckets))


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """Return the sketch of all values of all `sketches`."""
    zero, buckets = 0, dict[int, int]()
    for one in sketches:
        zero += one.zero
        for bucket, count in one.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + count
    return Sketch(zero, _collapsed(buckets))


def quantile(sketch: Sketch, q: float) -> float | None:
    """Return the value below which a share `q` of the values lies; None for an empty sketch.

    The result is within `ACCURACY` of the value of rank floor(q * (count - 1)), in ascending order.
    Raises ValueError for a `q` outside 0 to 1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a share is from 0 to 1: {q}")
    count = sketch.count
    if not count:
        return None
    rank = int(q * (count - 1))
    below = sketch.zero
    if rank < below:
        return 0.0
    for bucket in sorted(sketch.buckets):
        below += sketch.buckets[bucket]
        if rank < below:
            return _middle(bucket)
    raise AssertionError("the ranks of a sketch are below its count")


def _middle(bucket: int) -> float:
    """The value whose relative distance to both bounds of the bucket is the same."""
    return float(2 * _GAMMA**bucket / (_GAMMA + 1))


def _collapsed(buckets: Mapping[int, int]) -> dict[int, int]:
    """At most BUCKETS_MAX buckets, in ascending order; what lies below them joins the lowest.

    The floor follows from the highest bucket alone, so it is the same in whatever order sketches
    are merged.
    """
    if not buckets:
        return {}
    floor = max(buckets) - BUCKETS_MAX + 1
    kept = dict[int, int]()
    for bucket in sorted(buckets):
        place = max(bucket, floor)
        kept[place] = kept.get(place, 0) + buckets[bucket]
    return kept
