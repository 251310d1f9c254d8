"""The supervised processes of a lab, one class per kind, behind one small interface.

A part knows how to start its process and how to tell that it serves. When it is started again, and
why, is the business of `chaos.lab.keeper`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import aiohttp

from app.db.grants import login_of
from app.roles import ROLES
from chaos.lab.addresses import Addresses
from chaos.lab.broker import Broker
from chaos.lab.plan import Plan
from chaos.lab.postgres import Postgres
from chaos.lab.process import HOST, free_port, port_in_use, port_taken, spawn

STANDARD_PLUGINS = (
    "chaos.injector",
    "chaos.control.agent",
    "chaos.control.payment_mode",
    "chaos.gameday.plugin",
    "chaos.variants",
)
"""What every worker of a lab installs, whatever else its plug-ins are."""

StopMode = Literal["fast", "immediate"]
_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class Readiness(NamedTuple):
    """Whether a part serves, and if not, what it waits for (may be empty)."""

    ok: bool
    reason: str = ""


class Part(Protocol):
    """One kind of process. `pid` is None when it does not run; `returncode` reaps."""

    name: str
    role: str
    log: Path

    @property
    def pid(self) -> int | None: ...

    @property
    def returncode(self) -> int | None: ...

    async def launch(self) -> None:
        """Start the process; raises LabError."""

    async def readiness(self) -> Readiness:
        """Ask the running process."""

    def stop_signal(self, mode: StopMode) -> signal.Signals:
        """What ends it in good order."""


class BrokerPart:
    """The embedded Kafka broker."""

    name = role = "broker"

    def __init__(self, plan: Plan, proxy_port: int | None) -> None:
        port = plan.broker_port or None
        self.server = Broker(plan.files.broker, port=port, proxy_port=proxy_port)
        self.log = self.server.log

    @property
    def pid(self) -> int | None:
        return self.server.pid

    @property
    def returncode(self) -> int | None:
        return self.server.returncode

    async def launch(self) -> None:
        await asyncio.to_thread(self.server.launch)

    async def readiness(self) -> Readiness:
        return Readiness(await asyncio.to_thread(self.server.leads, 1.0))

    def stop_signal(self, mode: StopMode) -> signal.Signals:
        return signal.SIGTERM


class PostgresPart:
    """The embedded PostgreSQL server."""

    name = role = "postgres"

    def __init__(self, plan: Plan) -> None:
        self.server = Postgres(plan.files.postgres, port=plan.postgres_port or None)
        self.log = self.server.log

    @property
    def pid(self) -> int | None:
        return self.server.pid

    @property
    def returncode(self) -> int | None:
        return self.server.returncode

    async def launch(self) -> None:
        await asyncio.to_thread(self.server.launch)

    async def readiness(self) -> Readiness:
        return Readiness(await asyncio.to_thread(self.server.answers))

    def stop_signal(self, mode: StopMode) -> signal.Signals:
        return signal.SIGQUIT if mode == "immediate" else signal.SIGINT


class Command:
    """A part that is a plain command line."""

    def __init__(self, name: str, role: str, log: Path) -> None:
        self.name, self.role, self.log = name, role, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def returncode(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def stop_signal(self, mode: StopMode) -> signal.Signals:
        return signal.SIGTERM


class GatewayPart(Command):
    """The payment gateway simulator: a third party with its own ledger."""

    def __init__(self, plan: Plan, http: aiohttp.ClientSession) -> None:
        super().__init__("gateway-sim", "gateway-sim", plan.files.log_of("gateway-sim"))
        self._plan, self._http = plan, http
        self._port = plan.gateway_port or free_port()
        self.url = f"http://{HOST}:{self._port}"

    async def launch(self) -> None:
        if port_in_use(self._port):
            raise port_taken(self._port, "the payment gateway", "--gateway-port")
        ledger = self._plan.files.gateway_ledger
        ledger.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["--port", str(self._port), "--ledger", str(ledger)]
        self._process = spawn(
            [sys.executable, "-P", "-m", "chaos.gateway_sim", *arguments],
            log=self.log,
            cwd=self._plan.cwd,
        )

    async def readiness(self) -> Readiness:
        return await ask(self._http, f"{self.url}/healthz")


class WorkerPart(Command):
    """One worker of one role; every launch is a new incarnation."""

    def __init__(
        self, plan: Plan, role: str, number: int, addresses: Addresses, http: aiohttp.ClientSession
    ) -> None:
        name = f"{role}-{number}"
        super().__init__(name, role, plan.files.log_of(name))
        self._plan, self._addresses, self._http = plan, addresses, http
        self.health_port = free_port()
        self._web_port = 0
        if role == "web":
            first = int(addresses.web_url.rpartition(":")[2])
            self._web_port = first if number == 1 else free_port()
        self.incarnation = ""
        self.next_environment: Mapping[str, str] = {}

    @property
    def group(self) -> str | None:
        """The worker's consumer group, None when its role consumes nothing."""
        return f"{self._plan.namespace}-{self.role}" if ROLES[self.role].consumes else None

    @property
    def client_id(self) -> str:
        """The Kafka client id of the last incarnation."""
        return f"{self.name}.{self.incarnation}"

    async def launch(self) -> None:
        if self._web_port and port_in_use(self._web_port):
            raise port_taken(self._web_port, "role web", "--web-port")
        if port_in_use(self.health_port):
            self.health_port = free_port()
        self.incarnation = uuid.uuid4().hex[:8]
        environment = {**self._environment(), **self.next_environment}
        others = environment.get("SYMPHONY_PLUGINS", "").split(",")
        plugins = dict.fromkeys((*STANDARD_PLUGINS, *filter(None, others)))
        environment["SYMPHONY_PLUGINS"] = ",".join(plugins)
        self.next_environment = {}
        self._process = spawn(
            self._plan.command(self.role), log=self.log, env=environment, cwd=self._plan.cwd
        )

    async def readiness(self) -> Readiness:
        return await ask(self._http, f"http://{HOST}:{self.health_port}/readyz")

    async def status(self) -> dict[str, Any] | None:
        """The worker's own status document, None when it does not answer."""
        url = f"http://{HOST}:{self.health_port}/status"
        try:
            async with self._http.get(url, timeout=_HTTP_TIMEOUT) as answer:
                document: dict[str, Any] = await answer.json()
                return document
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    def _environment(self) -> dict[str, str]:
        plan, at = self._plan, self._addresses
        dsn = at.dsn
        if plan.postgres_kind == "embedded":
            dsn = dsn.replace("//symphony@", f"//{login_of(self.role)}@")
        worker = {
            "lab": "true",
            "namespace": plan.namespace,
            "topic_partitions": str(plan.topic_partitions),
            "role": self.role,
            "worker_id": self.name,
            "incarnation": self.incarnation,
            "health_host": HOST,
            "health_port": str(self.health_port),
            "broker_bootstrap": at.bootstrap,
            "postgres_dsn": dsn,
            "gateway_url": at.gateway_url,
            "data_dir": str(plan.files.data),
            "trace_dir": str(plan.files.traces),
            "lab_dir": str(plan.lab_dir),
        }
        if self._web_port:
            worker |= {"web_host": HOST, "web_port": str(self._web_port)}
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "SYMPHONY_NOTIFICATION_SINK": "file",
            "SYMPHONY_NOTIFICATION_FILE": str(plan.files.notifications),
            **plan.environment,
            **{f"SYMPHONY_{key.upper()}": value for key, value in worker.items()},
        }


async def ask(http: aiohttp.ClientSession, url: str) -> Readiness:
    """200 is ready; otherwise the `reason` of the JSON answer."""
    try:
        async with http.get(url, timeout=_HTTP_TIMEOUT) as answer:
            if answer.status == 200:
                return Readiness(True)
            body = await answer.json()
            return Readiness(False, str(body.get("reason", "")))
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError):
        return Readiness(False, "does not answer")
