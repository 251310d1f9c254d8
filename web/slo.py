"""The objectives as a web worker knows them: one read for all who ask within a second."""

from __future__ import annotations

import asyncio

from aiohttp import web

from app.slo.reading import read
from app.slo.report import Report
from web.context import Context


class ObjectivesReader:
    """Reads the panes when the last read is older than `slo_cache_s`; never twice at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._read_s = 0.0
        self._told: Report | None = None

    async def report(self) -> Report:
        """Return the objectives as they stand; raises what PostgreSQL raises."""
        context = self._context
        async with self._lock:
            now_s = context.clock.monotonic()
            if self._told is None or now_s - self._read_s >= context.settings.slo_cache_s:
                self._told = await read(context.db, context.settings, context.clock.now())
                self._read_s = now_s
            return self._told


OBJECTIVES: web.AppKey[ObjectivesReader] = web.AppKey("objectives", ObjectivesReader)
