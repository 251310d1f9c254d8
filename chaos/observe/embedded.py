"""The lab's parts for Prometheus and Alertmanager, and the list of what is scraped.

They only look on: they are started when all works, ended with the workers, started again when they
die, and nothing in the lab waits for them. What they keep is bounded by time, size and memory.
Prometheus reads its targets from a file which the supervisor rewrites when workers come and go.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from chaos.lab.parts import Command, Readiness, WorkerPart, ask
from chaos.lab.plan import Plan
from chaos.lab.process import HOST, free_port, port_in_use, port_taken, spawn
from chaos.observe.plan import Observe
from chaos.observe.prometheus import alertmanager as routes
from chaos.observe.prometheus import prometheus
from chaos.observe.scale import LAB

OBSERVERS = frozenset({"prometheus", "alertmanager"})
"""Roles of parts that only look on."""
ASK_S = aiohttp.ClientTimeout(total=5.0)
QUERIES_MAX = 8
QUERY_S = 10
QUERY_SAMPLES_MAX = 5_000_000
BLOCK = "30m"
"""How much of the newest is kept in memory before it is written as a block."""


class AlertmanagerPart(Command):
    """Alertmanager of a lab: groups and inhibits what fires, and tells nobody."""

    def __init__(self, plan: Plan, observe: Observe, http: aiohttp.ClientSession) -> None:
        super().__init__("alertmanager", "alertmanager", plan.files.log_of("alertmanager"))
        self._plan, self._observe, self._http = plan, observe, http
        self._port = observe.alertmanager_port or free_port()
        self.url = f"http://{HOST}:{self._port}"

    async def launch(self) -> None:
        if port_in_use(self._port):
            raise port_taken(self._port, "Alertmanager", "--alertmanager-port")
        directory = self._plan.files.observe
        configuration = directory / "alertmanager.yml"
        write(configuration, json.dumps(routes(group_wait_s=1), indent=1))
        observe = self._observe
        self._process = spawn(
            [
                str(observe.alertmanager),
                f"--config.file={configuration}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--data.retention={observe.retention_h:g}h",
                f"--web.listen-address={HOST}:{self._port}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ],
            log=self.log,
            env=environment(observe),
            cwd=home_of(observe.alertmanager),
        )

    async def readiness(self) -> Readiness:
        return await ask(self._http, f"{self.url}/-/ready")


class PrometheusPart(Command):
    """Prometheus of a lab, with its rules, Alertmanager and targets."""

    def __init__(
        self, plan: Plan, observe: Observe, alertmanager: str, http: aiohttp.ClientSession
    ) -> None:
        super().__init__("prometheus", "prometheus", plan.files.log_of("prometheus"))
        self._plan, self._observe, self._http = plan, observe, http
        self._alertmanager = alertmanager
        self._port = observe.prometheus_port or free_port()
        self.url = f"http://{HOST}:{self._port}"

    async def launch(self) -> None:
        if port_in_use(self._port):
            raise port_taken(self._port, "Prometheus", "--prometheus-port")
        files, observe = self._plan.files, self._observe
        configuration = files.observe / "prometheus.yml"
        document = prometheus_configuration(observe, files.targets, self._alertmanager)
        write(configuration, json.dumps(document, indent=1))
        self._process = spawn(
            [
                str(observe.prometheus),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={files.observe / 'prometheus'}",
                f"--storage.tsdb.retention.time={observe.retention_h:g}h",
                f"--storage.tsdb.retention.size={observe.disk_max_mb}MB",
                f"--storage.tsdb.min-block-duration={BLOCK}",
                f"--storage.tsdb.max-block-duration={BLOCK}",
                "--storage.tsdb.wal-compression",
                f"--web.listen-address={HOST}:{self._port}",
                "--enable-feature=exemplar-storage",
                f"--query.lookback-delta={duration(observe.lookback_s)}",
                f"--query.max-concurrency={QUERIES_MAX}",
                f"--query.timeout={QUERY_S}s",
                f"--query.max-samples={QUERY_SAMPLES_MAX}",
                "--log.level=warn",
                *pages(observe.prometheus),
            ],
            log=self.log,
            env=environment(observe),
            cwd=files.observe,
        )

    async def readiness(self) -> Readiness:
        """Ready is one that has looked at every target once: before, all roles seem absent."""
        ready = await ask(self._http, f"{self.url}/-/ready")
        if not ready.ok:
            return ready
        targets = await asyncio.to_thread(targets_in, self._plan.files.targets)
        seen = await self._seen()
        return Readiness(seen >= targets > 0, f"{seen} of {targets} targets were looked at")

    async def _seen(self) -> int:
        """How many targets it has looked at; 0 while it does not say."""
        try:
            url = f"{self.url}/api/v1/query?query=count(up)"
            async with self._http.get(url, timeout=ASK_S) as answer:
                found = (await answer.json())["data"]["result"]
                return int(found[0]["value"][1]) if found else 0
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError):
            return 0


class Targets:
    """The file of scrape targets. `write` is called often and changes it only when it has to."""

    def __init__(self, file: Path) -> None:
        self._file, self._written = file, ""

    def write(self, workers: Iterable[WorkerPart]) -> bool:
        """Have exactly these workers scraped; whether that was a change."""
        text = json.dumps(target_groups(workers), indent=1)
        if text == self._written:
            return False
        write(self._file, text)
        self._written = text
        return True


def targets_in(file: Path) -> int:
    """How many targets the file has; 0 while there is none."""
    try:
        return len(json.loads(file.read_text()))
    except FileNotFoundError:
        return 0


def target_groups(workers: Iterable[WorkerPart]) -> list[dict[str, Any]]:
    """The workers as Prometheus' file_sd takes them: one group each, with role and name."""
    return [
        {
            "targets": [f"{HOST}:{worker.health_port}"],
            "labels": {"role": worker.role, "worker": worker.name},
        }
        for worker in workers
    ]


def prometheus_configuration(observe: Observe, targets: Path, alertmanager: str) -> dict[str, Any]:
    """The generated configuration of a lab with this lab's places, pace and bound; JSON is YAML."""
    made = prometheus(
        LAB, targets=str(targets), rules="", alertmanager=alertmanager.removeprefix("http://")
    )
    interval = duration(observe.scrape_interval_s)
    for key in ("scrape_interval", "scrape_timeout", "evaluation_interval"):
        made["global"][key] = interval
    made["rule_files"] = observe.rules
    for one in made["scrape_configs"]:
        one["sample_limit"] = observe.samples_max
    return made


def duration(seconds: float) -> str:
    """A duration as Prometheus writes it, to the millisecond."""
    return f"{round(seconds * 1000)}ms"


def home_of(program: Path) -> Path:
    """Where the data of an unpacked program are sought; others do not care where they run."""
    return program.resolve().parent.parent


def pages(prometheus: Path) -> list[str]:
    """Debian keeps Prometheus' pages beside the program, not in it."""
    assets = home_of(prometheus) / "share" / "prometheus" / "web"
    return [f"--web.local-assets={assets}/"] if assets.is_dir() else []


def environment(observe: Observe) -> Mapping[str, str]:
    """The programs are Go: from this size on their memory is collected again and again."""
    return {**os.environ, "GOMEMLIMIT": f"{observe.memory_max_mb}MiB"}


def write(file: Path, text: str) -> None:
    """Replace a file at once: a reader sees the old content or the new."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.new")
    scratch.write_text(text)
    scratch.replace(file)
