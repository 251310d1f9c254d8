"""Durations as people write them."""

from __future__ import annotations

import pytest

from app.durations import seconds_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("PT5M", 300), ("pt1h", 3600), ("1h30m", 5400), (" 0.5s ", 0.5),
     ("PT1H2M3S", 3723), ("0s", 0)],
)  # fmt: skip
def test_a_duration(text: str, seconds: float) -> None:
    """Short and ISO 8601 forms, in either case."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5x", "5", "m5", "PT", "P1D", "-5m", "5m5m", "1e3s", "\uff15m", "5 m", "9999999s"]
)
def test_what_is_no_duration(text: str) -> None:
    """Refused, with how to write one."""
    with pytest.raises(ValueError, match="write 90s, 5m"):
        seconds_of(text)
