"""Error ratio, burn rate, budget and alerts; what is not known stays unknown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.slo.burn import (
    ALERTS,
    BurnAlert,
    Counts,
    budget_left,
    burn_rate,
    error_ratio,
    is_firing,
    time_to_exhaustion_s,
)

pytestmark = pytest.mark.unit

PAGE = ALERTS[0]
targets = st.floats(min_value=0.5, max_value=0.9999)


def test_no_event_is_no_ratio_and_no_bad_event_is_zero() -> None:
    """The two are never mixed up."""
    assert error_ratio(Counts(0, 0)) is None
    assert error_ratio(Counts(7, 0)) == 0.0
    assert error_ratio(Counts(0, 7)) == 1.0


@pytest.mark.parametrize(
    ("good", "bad", "target", "burning"),
    [(995, 5, 0.995, 1.0), (0, 1, 0.995, 200.0), (99, 1, 0.95, 0.2), (928, 72, 0.995, 14.4)],
)
def test_the_burn_rate_is_the_error_ratio_over_the_budget(
    good: int, bad: int, target: float, burning: float
) -> None:
    """Not a percentage, not truncated: 1 is as fast as allowed."""
    found = burn_rate(error_ratio(Counts(good, bad)), target)
    assert found is not None
    assert math.isclose(found, burning, rel_tol=1e-9)


@given(st.integers(0, 1000), st.integers(0, 1000), targets)
def test_the_budget_left_is_one_less_what_was_burned(good: int, bad: int, target: float) -> None:
    """At a burn rate of 1 over the whole window nothing is left; it may be overspent."""
    ratio = error_ratio(Counts(good, bad))
    left = budget_left(ratio, target)
    if ratio is None:
        assert left is None
    else:
        assert left is not None
        assert math.isclose(left, 1 - ratio / (1 - target), abs_tol=1e-9)
        assert (left == 1) == (bad == 0)


@pytest.mark.parametrize(
    ("left", "burning", "lasts_s"),
    [
        pytest.param(1.0, 1.0, 1000.0, id="as-fast-as-allowed"),
        pytest.param(0.5, 10.0, 50.0, id="fast"),
        pytest.param(0.0, 3.0, 0.0, id="spent"),
        pytest.param(-2.0, None, 0.0, id="overspent-whatever-burns"),
        pytest.param(0.5, 0.0, None, id="nothing-burns"),
        pytest.param(0.5, None, None, id="burning-unknown"),
        pytest.param(None, 1.0, None, id="left-unknown"),
    ],
)
def test_how_long_the_budget_lasts(
    left: float | None, burning: float | None, lasts_s: float | None
) -> None:
    """In seconds of the objective's window, at the present rate."""
    assert time_to_exhaustion_s(left, burning, 1000.0) == lasts_s


@pytest.mark.parametrize(
    ("long", "short", "firing"),
    [
        (20.0, 20.0, True),
        (20.0, 14.4, False),
        (14.4, 20.0, False),
        (20.0, 0.0, False),
        (0.0, 20.0, False),
        (None, 20.0, None),
        (20.0, None, None),
        (None, None, None),
    ],
)
def test_an_alert_needs_both_windows(
    long: float | None, short: float | None, firing: bool | None
) -> None:
    """It fires above its factor only, and says nothing while a window has no data."""
    assert is_firing(PAGE, {"1h": long, "5m": short}, {"1h": 3}, bad_min=3) is firing


@pytest.mark.parametrize(
    ("bad", "bad_min", "firing"),
    [
        pytest.param(1, 3, False, id="a-single-dead-letter"),
        pytest.param(2, 3, False, id="one-too-few"),
        pytest.param(3, 3, True, id="just-enough"),
        pytest.param(1, 1, True, id="no-minimum"),
        pytest.param(None, 3, None, id="not-counted"),
    ],
)
def test_an_alert_needs_a_minimum_of_bad_events(
    bad: int | None, bad_min: int, firing: bool | None
) -> None:
    """In its long window, however fast a few events burn: one letter alone burns at 333."""
    burning = burn_rate(error_ratio(Counts(0, 1)), 0.997)
    rates = {"1h": burning, "5m": burning}
    assert is_firing(PAGE, rates, {"1h": bad, "5m": 99}, bad_min=bad_min) is firing


def test_a_window_that_is_not_there_is_unknown() -> None:
    """A reader that knows fewer windows gets no false comfort."""
    assert is_firing(PAGE, {}, {}, bad_min=3) is None


def test_the_alerts_are_those_of_the_workbook() -> None:
    """Factors and windows of chapter 5, table 5-8."""
    assert (
        BurnAlert("page", 14.4, "1h", "5m"),
        BurnAlert("page", 6, "6h", "30m"),
        BurnAlert("ticket", 3, "1d", "2h"),
        BurnAlert("ticket", 1, "3d", "6h"),
    ) == ALERTS
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
