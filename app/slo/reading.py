"""The objectives as they stand, read from the panes in PostgreSQL: by role slo and by the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.db import slo as rows
from app.slo import objectives, report
from app.slo.panes import scheme_of
from app.slo.report import Report

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.slo import Reader
    from app.settings import Settings

CONSUMERS = ("slo", "slo-letters")
"""Whose progress must be known of every partition."""


async def read(reader: Reader, settings: Settings, now: datetime) -> Report:
    """Return what is to be told of the objectives at `now`. Raises what the reader raises."""
    scheme = scheme_of(settings.slo_time_scale)
    figures = await rows.figures(
        reader,
        scheme,
        now,
        latency_of="completion",
        consumers=dict.fromkeys(CONSUMERS, settings.topic_partitions),
    )
    return report.make(
        objectives.declared(),
        figures,
        now,
        scheme=scheme,
        time_scale=settings.slo_time_scale,
        stale_after_s=settings.slo_stale_after_s,
        bad_min=settings.slo_burn_bad_events_min,
    )
