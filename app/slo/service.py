"""What the panes say, as metrics and log lines, every few seconds: a service of role slo."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import mode

from app.delivery.exits import Reason, end_process
from app.errors import SymphonyError
from app.observability import metrics
from app.observability.logging import get_log
from app.slo.reading import figures, judged
from app.slo.report import QUANTILES, AlertOut, Figures, ObjectiveOut, Report, WindowOut

if TYPE_CHECKING:
    from app.delivery.app import App

log = get_log(__name__)

_KNOWN = (
    metrics.SLO_ERRORS,
    metrics.SLO_BURN,
    metrics.SLO_WINDOW_EVENTS,
    metrics.SLO_WINDOW_BAD_EVENTS,
    metrics.SLO_BUDGET,
    metrics.SLO_LATENCY,
    metrics.SLO_AGE,
)
"""What is absent while nothing is known."""


def show(told: Report | None) -> None:
    """Set the gauges to what is told; what is not known has no series. None: nothing is known."""
    for family in _KNOWN:
        family.forget()
    if told is None:
        return
    if told.data_age_s is not None:
        metrics.SLO_AGE.child().set(told.data_age_s)
    for one in told.objectives:
        _show_objective(one)
    for latency in told.latency:
        values_ms = (latency.p50_ms, latency.p95_ms, latency.p99_ms)
        for quantile, value_ms in zip(QUANTILES, values_ms, strict=True):
            if value_ms is not None:
                metrics.SLO_LATENCY.child(f"{quantile:g}", latency.window).set(value_ms / 1000)


def _show_objective(one: ObjectiveOut) -> None:
    metrics.SLO_TARGET.child(one.name).set(one.target)
    if one.budget_left is not None:
        metrics.SLO_BUDGET.child(one.name).set(one.budget_left)
    for window in one.windows:
        _show_window(one.name, window)


def _show_window(slo: str, one: WindowOut) -> None:
    if one.error_ratio is not None and one.burn_rate is not None:
        metrics.SLO_ERRORS.child(slo, one.window).set(one.error_ratio)
        metrics.SLO_BURN.child(slo, one.window).set(one.burn_rate)
    if one.good is not None and one.bad is not None:
        metrics.SLO_WINDOW_EVENTS.child(slo, one.window).set(one.good + one.bad)
        metrics.SLO_WINDOW_BAD_EVENTS.child(slo, one.window).set(one.bad)


class AlertLog:
    """Tells every change of an alert once: firing, silent, or not known any more."""

    def __init__(self) -> None:
        self._firing: dict[tuple[str, str], bool | None] = {}

    def tell(self, told: Report) -> None:
        """Log what is different from the last time; an alert that was never known says nothing."""
        for one in told.objectives:
            for alert in one.alerts:
                before = self._firing.get((one.name, alert.name))
                if alert.firing is not before:
                    self._firing[one.name, alert.name] = alert.firing
                    if before or alert.firing:
                        _log_change(one, alert)


def _log_change(one: ObjectiveOut, alert: AlertOut) -> None:
    rates = {window.window: window.burn_rate for window in one.windows}
    say = log.warning if alert.firing else log.info
    event = "slo.alert_firing" if alert.firing else "slo.alert_ended"
    if alert.firing is None:
        event = "slo.alert_unknown"
    say(
        event,
        slo=one.name,
        alert=alert.name,
        severity=alert.severity,
        burn_rate_long=rates[alert.long_window],
        burn_rate_short=rates[alert.short_window],
        budget_left=one.budget_left,
    )


class SnapshotService(mode.Service):
    """Reads the panes again and again; ends the process only for a defect of its own."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._alerts = AlertLog()
        self._figures: Figures | None = None
        self._task: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Begin; PostgreSQL answered when the worker started."""
        self._task = asyncio.create_task(self._run(), name="slo-snapshots")

    async def on_stop(self) -> None:
        """End at once: a read that is under way changes nothing."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        app = self._app
        try:
            while True:
                await self._once()
                await asyncio.sleep(app.settings.slo_snapshot_interval_s)
        except Exception as error:
            end_process(Reason.FAILURE, f"slo snapshots: {type(error).__name__}: {error}")

    async def _once(self) -> None:
        """One look; a failed one leaves what the last one read, until that is stale."""
        app = self._app
        try:
            self._figures = await figures(app.db, app.settings, app.clock.now())
        except SymphonyError as error:
            log.warning("slo.snapshot_failed", code=error.code)
        if self._figures is None:
            return
        told = judged(self._figures, app.settings, app.clock.now())
        show(told)
        self._alerts.tell(told)
