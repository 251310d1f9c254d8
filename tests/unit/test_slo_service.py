"""What role slo shows of a report: series of what is known, and none of what is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from app.observability import metrics
from app.observability.families import REGISTRY
from app.slo import objectives, service
from app.slo.burn import Counts
from app.slo.panes import WINDOWS_S, scheme_of
from app.slo.report import Figures, Report, make

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    service.show(None)
    metrics.SLO_TARGET.forget()


def told(**counts: Counts) -> Report:
    """A report in which every window of these indicators counted the same."""
    figures = Figures({sli: dict.fromkeys(WINDOWS_S, one) for sli, one in counts.items()}, {}, NOW)
    return make(
        objectives.declared(), figures, NOW,
        scheme=scheme_of(1), time_scale=1, stale_after_s=20, bad_min=3,
    )  # fmt: skip


def shown(name: str, slo: str, window: str = "1h") -> float | None:
    """A series of an objective; None when it is absent."""
    return REGISTRY.get_sample_value(name, {"slo": slo, "window": window})


@pytest.mark.parametrize(("letters", "state"), [(1, "exhausted"), (2, "exhausted"), (3, "page")])
def test_a_single_dead_letter_pages_nobody(letters: int, state: str) -> None:
    """Of so few events the whole budget is spent; an alert needs as many as the setting says."""
    [judged] = [
        one
        for one in told(dead_letters=Counts(0, letters)).objectives
        if one.name == "dead_letters"
    ]
    assert judged.state == state
    assert {alert.firing for alert in judged.alerts} == {letters == 3}


def test_a_window_shows_how_many_events_its_burn_rate_stands_on() -> None:
    """All of them and the bad ones, by objective; a window without any has no series."""
    service.show(told(availability=Counts(7, 3)))
    assert shown("symphony_slo_window_events", "availability") == 10
    assert shown("symphony_slo_window_bad_events", "availability") == 3
    assert shown("symphony_slo_window_events", "dead_letters") == 10
    assert shown("symphony_slo_window_bad_events", "dead_letters") == 0
    assert shown("symphony_slo_window_events", "fraud") is None
    service.show(None)
    assert shown("symphony_slo_window_events", "availability") is None
    assert shown("symphony_slo_window_bad_events", "availability") is None
