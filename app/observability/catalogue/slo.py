"""Service level objectives. A series without data is absent: 0 would say that all is well.

Every worker of role `slo` reports the same figures, so rules take the maximum; what it has counted
itself (`_total`) adds up.
"""

from __future__ import annotations

from app.observability.families import counter, gauge

SLO_EVENTS = counter(
    "symphony_slo_events_total",
    "Events that an indicator counts, by outcome: good, bad. Dead letters are only ever bad: what"
    " they are a share of are the outcomes beside them.",
    "sli",
    "outcome",
)
SLO_ODD_EVENTS = counter(
    "symphony_slo_odd_events_total",
    "Events with an odd time or latency: future, ancient, negative, not_a_number.",
    "kind",
)
SLO_TARGET = gauge("symphony_slo_objective_ratio", "The share that must be good.", "slo")
SLO_ERRORS = gauge("symphony_slo_error_ratio", "The share that was bad.", "slo", "window")
SLO_BURN = gauge(
    "symphony_slo_burn_rate",
    "How many times as fast as allowed the error budget is spent.",
    "slo",
    "window",
)
SLO_WINDOW_EVENTS = gauge(
    "symphony_slo_window_events", "Events that an objective counts in a window.", "slo", "window"
)
SLO_WINDOW_BAD_EVENTS = gauge(
    "symphony_slo_window_bad_events",
    "Bad events of a window; no alert on a budget fires for fewer than `slo_burn_bad_events_min`.",
    "slo",
    "window",
)
SLO_BUDGET = gauge(
    "symphony_slo_budget_left_ratio",
    "The share of the error budget that is left; negative when overspent.",
    "slo",
)
SLO_LATENCY = gauge(
    "symphony_slo_latency_seconds",
    "Quantiles of the time from an order's acceptance to its completion.",
    "quantile",
    "window",
)
SLO_AGE = gauge(
    "symphony_slo_data_age_seconds", "How long ago all that is counted was read to its end."
)
