"""The lab's part for the TCP proxy (chaos.proxy): before Kafka, PostgreSQL and the gateway.

Ports stay the same over restarts, and each start is with the base configuration: no toxics, all
proxies enabled. Its end takes all three servers away from the workers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp

from chaos.lab.addresses import PROXIES
from chaos.lab.parts import Command, Readiness, ask
from chaos.lab.plan import Plan
from chaos.lab.process import HOST, free_port, port_in_use, port_taken, spawn


class ProxyPart(Command):
    """The proxy's process. `upstreams` must be set before the first launch."""

    def __init__(self, plan: Plan, http: aiohttp.ClientSession) -> None:
        super().__init__("proxy", "proxy", plan.files.log_of("proxy"))
        self._plan, self._http = plan, http
        self._port = plan.proxy_port or free_port()
        self.url = f"http://{HOST}:{self._port}"
        self.listen: Mapping[str, str] = {name: f"{HOST}:{free_port()}" for name in PROXIES}
        self.upstreams: Mapping[str, str] = {}

    def port_of(self, name: str) -> int:
        """The port at which a proxy listens."""
        return int(self.listen[name].rpartition(":")[2])

    def document(self) -> dict[str, Any]:
        """As `symphony status --json` prints it."""
        return {"url": self.url, "proxies": {row["name"]: _addresses(row) for row in self._rows()}}

    async def launch(self) -> None:
        if port_in_use(self._port):
            raise port_taken(self._port, "the proxy's API", "--proxy-port")
        file = self._plan.files.proxies
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self._rows()))
        arguments = ["--host", HOST, "--port", str(self._port), "--config", str(file)]
        if self._plan.proxy_seed is not None:
            arguments += ["--seed", str(self._plan.proxy_seed)]
        self._process = spawn(
            [sys.executable, "-P", "-m", "chaos.proxy", *arguments],
            log=self.log,
            cwd=self._plan.cwd,
        )

    async def readiness(self) -> Readiness:
        return await ask(self._http, f"{self.url}/version")

    def _rows(self) -> list[dict[str, str]]:
        return [
            {"name": name, "listen": self.listen[name], "upstream": self.upstreams[name]}
            for name in PROXIES
        ]


def _addresses(row: Mapping[str, str]) -> dict[str, str]:
    return {"listen": row["listen"], "upstream": row["upstream"]}
