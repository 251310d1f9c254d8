"""The web role's server as a mode.Service, so that Faust starts and stops it with the worker.

Guarantees: it answers without Kafka and while PostgreSQL is away; stopping lets running requests
and queued orders finish within the drain grace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta

import mode
from aiohttp import web

from app.db import intake
from app.errors import DatabaseOutage, TransientDatabase
from app.observability.logging import get_log
from web.application import Extension, build
from web.context import Context

log = get_log(__name__)

FORGET_EVERY_S = 10.0
FORGET_ROWS_MAX = 5000


class WebServer(mode.Service):
    """Serve on settings.web_host:web_port; `url` is where, once started.

    `make_context` is called and `extensions` are read at the start: the database is opened, and
    plug-ins are installed, after the wiring.
    """

    def __init__(
        self, make_context: Callable[[], Context], extensions: Sequence[Extension] = ()
    ) -> None:
        super().__init__()
        self._make_context = make_context
        self._extensions = extensions
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def on_start(self) -> None:
        """Bind and serve; raises OSError when the port is taken."""
        context = self._make_context()
        settings = context.settings
        runner = web.AppRunner(
            build(context, self._extensions),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=settings.drain_grace_s,
            keepalive_timeout=30.0,
        )
        await runner.setup()
        site = web.TCPSite(runner, settings.web_host, settings.web_port, backlog=1024)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self.url = f"http://{settings.web_host}:{settings.web_port}"
        self.add_future(self._forget_keys(context))
        log.info("web.listening", url=self.url)

    async def on_stop(self) -> None:
        """Refuse new connections, finish what is running."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _forget_keys(self, context: Context) -> None:
        """Delete idempotency keys past their retention, a bounded slice at a time."""
        retention = timedelta(hours=context.settings.api_idempotency_retention_h)
        while not self.should_stop:
            await self.sleep(FORGET_EVERY_S)
            with contextlib.suppress(DatabaseOutage, TransientDatabase):
                before = context.clock.now() - retention
                await intake.forget_keys(context.db, before, FORGET_ROWS_MAX)
