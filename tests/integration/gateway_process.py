"""The payment gateway simulator as a process, for tests; it ends with whoever started it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from chaos.lab.process import free_port, port_in_use, spawn, tail
from tests.waiting import wait_until


class GatewayProcess:
    """`python -m chaos.gateway_sim` on a port that it keeps over restarts."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *options: str) -> GatewayProcess:
        command = [sys.executable, "-m", "chaos.gateway_sim", "--ledger", str(self.ledger)]
        self.process = process = spawn(
            [*command, "--port", str(self.port), "--latency-ms-max", "0", *options],
            log=self.ledger.with_suffix(".log"),
            cwd=Path(__file__).parents[2],
        )
        wait_until(
            lambda: port_in_use(self.port) or process.poll() is not None,
            timeout_s=60,
            what="the gateway listens",
        )
        assert process.poll() is None, tail(self.ledger.with_suffix(".log"))
        return self

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def behave(self, **settings: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url}/v1/mode", json.dumps(settings).encode(), method="PUT"
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        """Lines of the ledger with these values, without the one that is being written."""
        whole = self.ledger.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if all(line[name] == wanted[name] for name in wanted)]
