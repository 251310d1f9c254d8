"""Facts about lag by offsets and by time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.census.lag import SAMPLES_MAX, History, Standing, standing, topic_lag

pytestmark = pytest.mark.unit


@given(
    gaps_s=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    every_s=st.floats(0.5, 5),
    wanted=st.integers(0, 59),
)
def test_a_records_moment_is_known_as_exactly_as_rounds_follow(
    gaps_s: list[float], every_s: float, wanted: int
) -> None:
    """Wherever the records of a partition came, the estimate is off by one round at most."""
    at_s, appended = 1.0, []
    for gap_s in gaps_s:
        at_s += gap_s
        appended.append(at_s)
    history, now_s = History(), 0.0
    while now_s < at_s + every_s:
        history.note(now_s, sum(one <= now_s for one in appended))
        now_s += every_s
    offset = min(wanted, len(appended) - 1)
    moment_s = history.moment_s(offset)
    assert moment_s is not None
    assert abs(moment_s - appended[offset]) <= every_s


def test_what_was_there_before_or_is_not_there_yet_has_no_moment() -> None:
    """The first note says nothing of the records below it, the last nothing of those to come."""
    history = History()
    history.note(10, 5)
    history.note(15, 9)
    assert history.moment_s(4) is None
    assert history.moment_s(5) == 10
    assert history.moment_s(7) == 12.5
    assert history.moment_s(9) is None


def test_an_end_that_stands_still_counts_from_when_it_was_last_seen() -> None:
    """Nothing came for an hour: the record that comes then is not an hour old."""
    history = History()
    for at_s in range(0, 3601, 5):
        history.note(at_s, 7)
    history.note(3605, 8)
    assert history.moment_s(7) == 3600


def test_the_past_is_bounded_and_forgotten_where_nobody_needs_it() -> None:
    """Long lag makes it coarser, never longer; a group that caught up needs one sample."""
    history = History()
    for number in range(10 * SAMPLES_MAX):
        history.note(5.0 * number, number)
    assert len(history._samples) <= SAMPLES_MAX
    early_s = history.moment_s(1)
    assert early_s is not None
    assert early_s < 5.0 * 10 * SAMPLES_MAX / 2
    history.forget_below(10 * SAMPLES_MAX - 2)
    assert len(history._samples) == 2
    assert history.moment_s(10 * SAMPLES_MAX - 2) is not None


def test_a_topic_made_anew_begins_a_new_past() -> None:
    """A lower end than before: what was noted is of another topic."""
    history = History()
    history.note(0, 100)
    history.note(5, 200)
    history.note(10, 3)
    history.note(15, 5)
    assert history.moment_s(150) is None
    assert history.moment_s(3) == 10


@pytest.mark.parametrize(
    ("committed", "begin", "end", "records"),
    [(None, 0, 5, 5), (None, 3, 5, 2), (4, 0, 5, 1), (2, 3, 5, 2), (5, 0, 5, 0), (9, 0, 5, 0)],
)
def test_lag_counts_what_can_still_be_read(
    committed: int | None, begin: int, end: int, records: int
) -> None:
    """From the committed offset, or the beginning; what retention deleted is not behind."""
    assert standing(committed, begin, end).records == records


def test_a_topics_lag_is_the_sum_and_the_oldest() -> None:
    """One partition whose record is of an unknown age makes the age unknown, not the count."""
    ahead, behind, far = Standing(5, 5), Standing(3, 5), Standing(0, 10)
    caught_up = topic_lag("payment", "a", {0: ahead}, {}, 100.0)
    assert (caught_up.records, caught_up.age_s) == (0, 0.0)
    known = topic_lag("payment", "a", {0: ahead, 1: behind, 2: far}, {1: 90.0, 2: 70.0}, 100.0)
    assert (known.records, known.age_s) == (12, 30.0)
    unknown = topic_lag("payment", "a", {1: behind, 2: far}, {1: 90.0, 2: None}, 100.0)
    assert (unknown.records, unknown.age_s) == (12, None)
    skewed = topic_lag("payment", "a", {1: behind}, {1: 130.0}, 100.0)
    assert skewed.age_s == 0.0, "a producer's clock that runs ahead makes no negative age"
