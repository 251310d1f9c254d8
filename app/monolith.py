"""Every role of the platform in one process: `symphony worker monolith`.

Each role keeps its own Faust application, consumer group, tables and entry in the killer journal,
so workers of single roles may run beside it. One per process are the event loop, the metrics, the
failpoints, the health port and the end: a role that ends its worker ends all of them, and all are
started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import mode

from app.factory import create_app
from app.observability.health import HealthServer, Verdict
from app.observability.logging import bound
from app.roles import ROLES

if TYPE_CHECKING:
    from app.delivery.app import App
    from app.settings import Settings

MONOLITH = "monolith"


class Monolith(mode.Service):
    """Starts and stops the applications of all roles together."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        incarnation = settings.incarnation or uuid4().hex[:12]
        settings = self.settings = settings.model_copy(update={"incarnation": incarnation})
        roles = [role.name for role in ROLES.values() if role.standard]
        self.apps = [create_app(_of_role(settings, name)) for name in roles]
        for app in self.apps:
            app.in_worker = True  # what faust.Worker says to its only application
        self._health = HealthServer(settings, MonolithProbe(settings, self.apps))

    async def on_start(self) -> None:
        """Start all roles at once; returns when every one has joined and recovered."""
        await self._health.start()
        await asyncio.gather(*(self._start(app) for app in self.apps))

    async def on_stop(self) -> None:
        """Stop all roles at once: each drains and commits within the drain grace."""
        await asyncio.gather(*(app.stop() for app in self.apps))

    async def on_shutdown(self) -> None:
        """Every role has stopped."""
        await self._health.stop()

    async def _start(self, app: App) -> None:
        with bound(role=app.role.name, worker=app.settings.worker_id):
            await self.add_runtime_dependency(app)


class MonolithProbe:
    """What all roles together say on the health port."""

    def __init__(self, settings: Settings, apps: Sequence[App]) -> None:
        self._settings = settings
        self._apps = apps

    def live(self) -> Verdict:
        """The watchdogs end a process that is not live, so one that answers is."""
        return Verdict(True)

    def ready(self) -> Verdict:
        """Ready when every role is; else the first that is not, and why."""
        for app in self._apps:
            verdict = app.lifecycle.probe.ready()
            if not verdict.ok:
                return Verdict(False, f"{app.role.name}: {verdict.reason}")
        return Verdict(True)

    def status(self) -> dict[str, Any]:
        """What every role says of itself, by role."""
        return {
            "role": MONOLITH,
            "worker_id": self._settings.worker_id,
            "incarnation": self._settings.incarnation,
            "ready": self.ready().ok,
            "roles": {app.role.name: app.lifecycle.probe.status() for app in self._apps},
        }


def _of_role(settings: Settings, role: str) -> Settings:
    """What was set, for one role: its own defaults and names, no health port of its own."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    own = {"role": role, "worker_id": f"{settings.worker_id}-{role}", "health_port": 0}
    return type(settings)(**{**given, **own})
