"""What role slo shows of a report: series of what is known, and none of what is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from app.clock import ManualClock
from app.db import slo as rows
from app.errors import TransientDatabase
from app.observability import metrics
from app.observability.families import REGISTRY
from app.settings import Settings, load_settings
from app.slo import objectives, service
from app.slo.burn import Counts
from app.slo.panes import COARSE_S, FINE_S, WINDOWS_S, scheme_of
from app.slo.reading import CONSUMERS
from app.slo.report import Figures, Report, make
from app.slo.service import SnapshotService

if TYPE_CHECKING:
    from app.db.statements import Statement
    from app.delivery import App

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    service.show(None)
    metrics.SLO_TARGET.forget()


class FakeDatabase:
    """Answers what the readers of panes ask, or fails as it is told to."""

    def __init__(self, clock: ManualClock, settings: Settings) -> None:
        self.away = False
        self._clock = clock
        self._partitions = settings.topic_partitions

    async def fetch(self, asked: Statement, /, **_: Any) -> list[tuple[Any, ...]]:
        """Ten outcomes in every window, three of them bad; everything was read just now."""
        if self.away:
            raise TransientDatabase("canceling statement due to statement timeout")
        if asked is rows._SUMS:
            counts = (7, 3) * len(WINDOWS_S)
            return [("availability", width_s, *counts) for width_s in (FINE_S, COARSE_S)]
        if asked is rows._AGE:
            return [
                (consumer, number, self._clock.now())
                for consumer in CONSUMERS
                for number in range(self._partitions)
            ]
        return []


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


async def test_one_failed_read_leaves_what_was_known(caplog: pytest.LogCaptureFixture) -> None:
    """The age of the data grows; beyond the bound the rest is unknown, until the next answer."""
    settings, clock = load_settings(role="slo"), ManualClock(NOW)
    db = FakeDatabase(clock, settings)
    look = SnapshotService(
        cast("App", SimpleNamespace(db=db, settings=settings, clock=clock))
    )._once
    caplog.set_level("INFO", logger=service.__name__)

    async def after(seconds: float, *, away: bool) -> tuple[float | None, float | None]:
        db.away = away
        clock.advance(seconds)
        await look()
        age_s = REGISTRY.get_sample_value("symphony_slo_data_age_seconds")
        return shown("symphony_slo_burn_rate", "availability"), age_s

    assert await after(0, away=True) == (None, None), "nothing was ever known"
    assert await after(0, away=False) == (pytest.approx(60), 0)
    assert await after(2, away=True) == (pytest.approx(60), 2)
    assert await after(18, away=True) == (pytest.approx(60), settings.slo_stale_after_s)
    assert "slo.alert_unknown" not in caplog.messages
    assert await after(2, away=True) == (None, 22), "old figures would look as if they were new"
    assert shown("symphony_slo_window_events", "availability") is None
    assert "slo.alert_unknown" in caplog.messages
    assert await after(2, away=False) == (pytest.approx(60), 0)
