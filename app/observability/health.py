"""The small HTTP server every worker answers on: /livez /readyz /status /metrics.

It is started before Kafka is joined and stopped last, so a worker that waits for its broker can
say so. It holds no state of its own: every answer is asked of a `Probe` when a request comes.
It is not the web role's API; it has no authentication and belongs on a private address.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from aiohttp import web

from app.observability import aliases, metrics
from app.observability.families import render
from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.settings import Settings

log = get_log(__name__)
LOOP_DELAY_EVERY_S = 1.0


class Verdict(NamedTuple):
    """An answer of a probe: whether it passes and, when not, why (one short phrase)."""

    ok: bool
    reason: str = ""


class Probe(Protocol):
    """What a worker knows about itself; every method returns at once and never raises."""

    def live(self) -> Verdict:
        """Whether restarting the process would not help."""

    def ready(self) -> Verdict:
        """Whether the worker does its job now: joined, recovered, dependencies there."""

    def status(self) -> dict[str, Any]:
        """Everything an operator asks for, JSON-encodable (partitions, lag, batch state)."""


class HealthServer:
    """Serve `probe` on settings.health_host:health_port; port 0 in the settings means none.

    `port` is the bound port once started.
    """

    def __init__(self, settings: Settings, probe: Probe) -> None:
        self._settings = settings
        self._probe = probe
        self._sampler: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self.port: int = 0

    async def start(self) -> None:
        """Bind and serve; raises OSError when the port is taken. Without a port: only be named
        in the metrics."""
        settings = self._settings
        metrics.WORKER.child(
            settings.worker_id, settings.role, settings.incarnation, package_version()
        ).set(1)
        if not settings.health_port:
            return
        if settings.metrics_aliases:
            aliases.install(settings.role)
        metrics.READY.child().set_function(lambda: float(self._probe.ready().ok))
        runner = web.AppRunner(application(self._probe), access_log=None, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, settings.health_host, settings.health_port)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner, self.port = runner, settings.health_port
        self._sampler = asyncio.create_task(sample_loop_delay(), name="loop-delay")
        log.info("health.listening", host=settings.health_host, port=self.port)

    async def stop(self) -> None:
        """Close the listener and wait for running answers; harmless when never started."""
        if self._sampler is not None:
            self._sampler.cancel()
            self._sampler = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


def application(probe: Probe) -> web.Application:
    """Return the aiohttp application of a probe; also usable under aiohttp's test client."""

    async def livez(_: web.Request) -> web.Response:
        return verdict_response(probe.live())

    async def readyz(_: web.Request) -> web.Response:
        return verdict_response(probe.ready())

    async def status(_: web.Request) -> web.Response:
        return json_response(probe.status())

    application = web.Application()
    application.router.add_get("/livez", livez)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/status", status)
    application.router.add_get("/metrics", metrics_view)
    return application


async def metrics_view(request: web.Request) -> web.Response:
    """Answer a scrape with this process's registry."""
    body, content_type = render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


def verdict_response(verdict: Verdict) -> web.Response:
    """Return 200 for a passing verdict, 503 with its reason otherwise."""
    body = {"status": "ok" if verdict.ok else "failing", "reason": verdict.reason}
    return json_response(body, status=200 if verdict.ok else 503)


def json_response(body: Any, *, status: int = 200) -> web.Response:
    """Encode `body` with msgspec; the answer is never cached."""
    return web.Response(
        body=msgspec.json.encode(body, enc_hook=str),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def sample_loop_delay() -> None:
    """Record once a second how late this event loop wakes a sleeping task."""
    loop = asyncio.get_running_loop()
    series = metrics.LOOP_DELAY.child()
    while True:
        due = loop.time() + LOOP_DELAY_EVERY_S
        await asyncio.sleep(LOOP_DELAY_EVERY_S)
        series.observe(max(0.0, loop.time() - due))


def package_version() -> str:
    """Return the installed version of the product, or `0` when it runs from a bare tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("chaos-symphony")
    except PackageNotFoundError:
        return "0"
