"""The objectives as they stand, read from the panes in PostgreSQL: by role slo and by the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.db import slo as rows
from app.slo import objectives, report
from app.slo.panes import scheme_of
from app.slo.report import Figures, Report

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.slo import Reader
    from app.settings import Settings

CONSUMERS = ("slo", "slo-letters")
"""Whose progress must be known of every partition."""


async def figures(reader: Reader, settings: Settings, now: datetime) -> Figures:
    """Return what the panes say at `now`. Raises what the reader raises."""
    return await rows.figures(
        reader,
        scheme_of(settings.slo_time_scale),
        now,
        latency_of="completion",
        consumers=dict.fromkeys(CONSUMERS, settings.topic_partitions),
    )


def judged(known: Figures, settings: Settings, now: datetime) -> Report:
    """Return what is to be told at `now` of figures, which may have been read a while ago."""
    return report.make(
        objectives.declared(),
        known,
        now,
        scheme=scheme_of(settings.slo_time_scale),
        time_scale=settings.slo_time_scale,
        stale_after_s=settings.slo_stale_after_s,
        bad_min=settings.slo_burn_bad_events_min,
    )


async def read(reader: Reader, settings: Settings, now: datetime) -> Report:
    """Return what is to be told of the objectives at `now`. Raises what the reader raises."""
    return judged(await figures(reader, settings, now), settings, now)
