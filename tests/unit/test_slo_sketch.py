"""The sketch keeps quantiles within one per cent, whatever is merged with what."""

from __future__ import annotations

import math

import pytest
from ddsketch import LogCollapsingLowestDenseDDSketch
from hypothesis import given
from hypothesis import strategies as st

from app.slo.panes import sketch_from_json, sketch_to_json
from app.slo.sketch import ACCURACY, BUCKETS_MAX, EMPTY, Sketch, bucket_of, merge, of, quantile

pytestmark = pytest.mark.unit

SLACK = 1e-9
latencies = st.floats(min_value=1e-4, max_value=1e5)
values = st.one_of(st.just(0.0), latencies)
shares = st.sampled_from((0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0))


def exact(numbers: list[float], q: float) -> float:
    """The value of rank floor(q * (n - 1))."""
    return sorted(numbers)[int(q * (len(numbers) - 1))]


@given(st.lists(st.floats(min_value=1e-3, max_value=10.0), min_size=1, max_size=200), shares)
def test_a_quantile_is_within_one_per_cent_of_the_exact_value(
    numbers: list[float], q: float
) -> None:
    """The promise, over a range that needs no collapse."""
    found, wanted = quantile(of(numbers), q), exact(numbers, q)
    assert found is not None
    assert abs(found - wanted) <= ACCURACY * wanted * (1 + SLACK)


@given(st.lists(latencies, min_size=1, max_size=200), shares)
def test_it_says_what_the_reference_implementation_says(numbers: list[float], q: float) -> None:
    """The `ddsketch` package with the same accuracy and bound, as an oracle."""
    oracle = LogCollapsingLowestDenseDDSketch(ACCURACY, BUCKETS_MAX)
    for number in numbers:
        oracle.add(number)
    wanted = oracle.get_quantile_value(q)
    found = quantile(of(numbers), q)
    assert found is not None
    assert math.isclose(found, wanted, rel_tol=1e-9)


@given(st.lists(st.lists(values, max_size=40), max_size=6), st.randoms(use_true_random=False))
def test_merging_is_commutative_and_associative(parts: list[list[float]], random: object) -> None:
    """In whatever order and groups parts are merged, it is the sketch of all values."""
    whole = of(number for part in parts for number in part)
    sketches = [of(part) for part in parts]
    random.shuffle(sketches)  # type: ignore[attr-defined]
    assert merge(sketches) == whole
    one_by_one = EMPTY
    for sketch in sketches:
        one_by_one = merge((one_by_one, sketch))
    assert one_by_one == whole
    middle = len(sketches) // 2
    assert merge((merge(sketches[middle:]), merge(sketches[:middle]))) == whole


@given(st.lists(values, max_size=100))
def test_it_survives_its_json(numbers: list[float]) -> None:
    """What PostgreSQL and the changelog keep is the sketch."""
    sketch = of(numbers)
    assert sketch_from_json(sketch_to_json(sketch)) == sketch
    assert sketch.count == len(numbers)


def test_the_lowest_buckets_collapse_and_high_quantiles_stay_exact() -> None:
    """Space is bounded; what is lost is accuracy at the low end."""
    numbers = [10.0 ** (power / 10) for power in range(-59, 91)] * 7
    sketch = of(numbers)
    assert len(sketch.buckets) <= BUCKETS_MAX
    assert sketch.count == len(numbers)
    p99, wanted = quantile(sketch, 0.99), exact(numbers, 0.99)
    assert p99 is not None
    assert abs(p99 - wanted) <= ACCURACY * wanted
    assert max(sketch.buckets) - min(sketch.buckets) == BUCKETS_MAX - 1


def test_nothing_has_no_quantile() -> None:
    """An empty sketch knows nothing; a sketch of zeros says zero."""
    assert quantile(EMPTY, 0.95) is None
    assert quantile(of([0.0, 0.0]), 0.95) == 0.0
    assert merge(()) == EMPTY


@pytest.mark.parametrize("value", [-0.001, -math.inf, math.inf, math.nan])
def test_what_is_no_latency_is_refused(value: float) -> None:
    """Negative values, infinities and NaN never enter a sketch."""
    with pytest.raises(ValueError, match="no value of a sketch"):
        bucket_of(value)
    with pytest.raises(ValueError, match="no value of a sketch"):
        of([1.0, value])


@pytest.mark.parametrize("q", [-0.1, 1.1])
def test_a_share_is_from_0_to_1(q: float) -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(ValueError, match="a share is from 0 to 1"):
        quantile(Sketch(1), q)
