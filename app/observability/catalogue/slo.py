"""Service level objectives. A series without data is absent: 0 would say that all is well."""

from __future__ import annotations

from app.observability.families import counter

SLO_EVENTS = counter(
    "symphony_slo_events_total",
    "Events that an objective counts, by what they say of it: good, bad.",
    "slo",
    "outcome",
)
