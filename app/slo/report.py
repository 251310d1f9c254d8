"""From what was counted to what is told of the objectives: pure, and the same for all readers.

What is not known is None: figures that are older than they may be, an event that never came. An
objective is only `ok` when enough is known to say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from app.slo import burn
from app.slo.burn import ALERTS, Counts, Severity
from app.slo.objectives import Objective
from app.slo.panes import WINDOWS_S, Scheme
from app.slo.sketch import Sketch, quantile

LATENCY_WINDOWS = ("1m", "5m", "1h", "6h")
"""The windows whose quantiles and throughput are told."""
QUANTILES = (0.5, 0.95, 0.99)

State = Literal["ok", "ticket", "page", "exhausted", "unknown"]


class Figures(NamedTuple):
    """What the panes say at one time: counts of each SLI by window, sketches by window, and until
    when everything was read (None: not known of every partition)."""

    counts: Mapping[str, Mapping[str, Counts]]
    latencies: Mapping[str, Sketch]
    read_until: datetime | None


class WindowOut(msgspec.Struct, frozen=True, rename="camel"):
    """An objective over one window; null where nothing was counted. `seconds` is the window's
    length under the time scale."""

    window: str
    seconds: float
    good: int | None
    bad: int | None
    error_ratio: float | None
    burn_rate: float | None


class AlertOut(msgspec.Struct, frozen=True, rename="camel"):
    """A burn alert: `firing` while both windows burn faster than `factor` and the long one has
    `bad_events_min` bad events or more; null while one of them has no data."""

    name: str
    severity: Severity
    factor: float
    long_window: str
    short_window: str
    bad_events_min: int
    firing: bool | None


class ObjectiveOut(msgspec.Struct, frozen=True, rename="camel"):
    """An objective and how it stands.

    `state`: page or ticket while such an alert fires, exhausted when the budget of `window` is
    spent, unknown while an alert that pages cannot be judged, else ok. `error_ratio` and
    `budget_left` are of `window`; `budget_left` is a share, negative when overspent.
    `exhaustion_s` is how long the budget lasts at the burn rate of the last hour: null when nothing
    burns, or nothing is known.
    """

    name: str
    title: str
    description: str
    target: float
    window: str
    state: State
    error_ratio: float | None
    budget_left: float | None
    exhaustion_s: float | None
    windows: list[WindowOut]
    alerts: list[AlertOut]


class LatencyOut(msgspec.Struct, frozen=True, rename="camel"):
    """How long orders took that completed in a window; null without any."""

    window: str
    seconds: float
    orders: int | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    outcomes_per_s: float | None


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """All objectives at one time.

    `p95Latency` is of completed orders over 5m, in ms; `dltCount` counts the dead letters of the
    objective's window; `sloBurnRate1h` is that of the objective that burns fastest over 1h. All
    three are null while there is no data. `data_age_s` is how long ago all topics were read to
    their end, null when that is not known; `stale`: too long ago, so that nothing is known.
    """

    p95_latency: float | None
    dlt_count: int | None
    slo_burn_rate_1h: float | None = msgspec.field(name="sloBurnRate1h")
    at: datetime
    data_age_s: float | None
    stale: bool
    time_scale: float
    objectives: list[ObjectiveOut]
    latency: list[LatencyOut]


def make(
    objectives: Mapping[str, Objective],
    figures: Figures,
    now: datetime,
    *,
    scheme: Scheme,
    time_scale: float,
    stale_after_s: float,
    bad_min: int,
) -> Report:
    """Return what is to be told of `objectives` at `now`; no burn alert fires for fewer than
    `bad_min` bad events."""
    age_s = None if figures.read_until is None else (now - figures.read_until).total_seconds()
    age_s = None if age_s is None else max(0.0, age_s)
    stale = age_s is None or age_s > stale_after_s
    known = figures._replace(counts={}, latencies={}) if stale else figures
    judged = [_objective(one, known, scheme, bad_min) for one in objectives.values()]
    latency = [_latency(window, known, scheme) for window in LATENCY_WINDOWS]
    burning = [rate for one in judged if (rate := _rate(one, "1h")) is not None]
    return Report(
        p95_latency=next(one.p95_ms for one in latency if one.window == "5m"),
        dlt_count=_dead_letters(objectives, judged),
        slo_burn_rate_1h=max(burning, default=None),
        at=now,
        data_age_s=age_s,
        stale=stale,
        time_scale=time_scale,
        objectives=judged,
        latency=latency,
    )


def _objective(
    objective: Objective, figures: Figures, scheme: Scheme, bad_min: int
) -> ObjectiveOut:
    windows = [_window(objective, window, figures, scheme) for window in WINDOWS_S]
    rates = {one.window: one.burn_rate for one in windows}
    bad = {one.window: one.bad for one in windows}
    whole = next(one for one in windows if one.window == objective.window)
    left = burn.budget_left(whole.error_ratio, objective.target)
    alerts = [
        AlertOut(
            name=alert.name,
            severity=alert.severity,
            factor=alert.factor,
            long_window=alert.long,
            short_window=alert.short,
            bad_events_min=bad_min,
            firing=burn.is_firing(alert, rates, bad, bad_min=bad_min),
        )
        for alert in ALERTS
    ]
    window_s = scheme.windows_s[objective.window]
    return ObjectiveOut(
        name=objective.name,
        title=objective.title,
        description=objective.description,
        target=objective.target,
        window=objective.window,
        state=state_of(alerts, left),
        error_ratio=whole.error_ratio,
        budget_left=left,
        exhaustion_s=burn.time_to_exhaustion_s(left, rates["1h"], window_s),
        windows=windows,
        alerts=alerts,
    )


def state_of(alerts: list[AlertOut], left: float | None) -> State:
    """Return the one word for an objective: the worst that is known, and `ok` only when it is."""
    firing: set[Severity] = {one.severity for one in alerts if one.firing}
    if "page" in firing:
        return "page"
    if "ticket" in firing:
        return "ticket"
    if left is not None and left <= 0:
        return "exhausted"
    judged = all(one.firing is not None for one in alerts if one.severity == "page")
    return "ok" if judged and left is not None else "unknown"


def _window(objective: Objective, window: str, figures: Figures, scheme: Scheme) -> WindowOut:
    counted: dict[str, int] = {}
    for sli, by_window in figures.counts.items():
        if window in by_window:
            counted[f"{sli}.good"], counted[f"{sli}.bad"] = by_window[window]
    counts = objective.counts(counted)
    ratio = burn.error_ratio(counts)
    return WindowOut(
        window=window,
        seconds=scheme.windows_s[window],
        good=None if ratio is None else counts.good,
        bad=None if ratio is None else counts.bad,
        error_ratio=ratio,
        burn_rate=burn.burn_rate(ratio, objective.target),
    )


def _latency(window: str, figures: Figures, scheme: Scheme) -> LatencyOut:
    sketch = figures.latencies.get(window)
    ended = figures.counts.get("availability", {}).get(window)
    seconds = scheme.windows_s[window]
    p50, p95, p99 = (None if sketch is None else _ms(quantile(sketch, q)) for q in QUANTILES)
    return LatencyOut(
        window=window,
        seconds=seconds,
        orders=sketch.count if sketch is not None and sketch.count else None,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        outcomes_per_s=ended.total / seconds if ended is not None and ended.total else None,
    )


def _dead_letters(objectives: Mapping[str, Objective], judged: list[ObjectiveOut]) -> int | None:
    """The dead letters that the objective on them has counted over its window."""
    for one in judged:
        if "dead_letters.bad" in objectives[one.name].bad:
            return next(each.bad for each in one.windows if each.window == one.window)
    return None


def _rate(objective: ObjectiveOut, window: str) -> float | None:
    return next(one.burn_rate for one in objective.windows if one.window == window)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
