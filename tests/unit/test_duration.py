"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.duration import parse_duration

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("2d1s", 172_801),
        ("0h5m", 300),
        ("PT5M", 300),
        ("PT1H30M", 5400),
        ("PT90S", 90),
        ("P1D", 86_400),
        ("P1DT1H", 90_000),
    ],
)
def test_both_spellings_are_read(text: str, seconds: int) -> None:
    """The short one and ISO 8601's."""
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "5x", "m", "-5m", "+5m", "5 m", " 5m", "5m ", "5M", "1.5h", "30m1h", "5m5m", "P",
        "PT", "P5M", "PT5m", "pt5m", "P1W", "1e3s", "\u0665m", "5m\n", "9999999999s",
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_examples(text: str) -> None:
    """The answer shows how it is written."""
    with pytest.raises(ValueError, match="write it like 90s, 5m, 1h30m or PT5M"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "0m", "PT0S", "P0D", "0h0m0s"])
def test_nothing_is_no_duration(text: str) -> None:
    """Zero in any spelling."""
    with pytest.raises(ValueError, match="more than 0"):
        parse_duration(text)


def test_absurd_durations_are_refused() -> None:
    """Before a date would overflow."""
    with pytest.raises(ValueError, match="at most"):
        parse_duration("999999999d")


@given(st.text(max_size=12))
def test_no_text_breaks_it(text: str) -> None:
    """A duration above zero or a ValueError, whatever comes."""
    try:
        assert parse_duration(text).total_seconds() > 0
    except ValueError:
        return
