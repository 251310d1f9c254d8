"""What an accepted order costs: CPU of the API process and of PostgreSQL, at a given rate.

`python -m bench.api --rate 500 --seconds 10 [--keys] [--items]`: starts a PostgreSQL and an API
process of its own, sends orders on an open schedule (latency counts from the intended send time)
writes bench/results/api-DATE. CPU counts both servers with all their children, not the sender.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from app.db.engine import Database
from app.db.migrate import seed, upgrade
from app.settings import load_settings
from bench import machine, report
from bench.accounting import cpu_s
from chaos.lab.postgres import Postgres
from chaos.lab.process import free_port
from web.context import Context
from web.server import WebServer

WARM_UP_S = 2.0
AMOUNT = {"customerId": "ada", "total": "12.50", "currency": "EUR", "shippingAddress": "Road 1"}
ITEMS = {
    "customerId": "ada",
    "items": [{"productId": sku, "quantity": 1} for sku in ("ROSIN", "REED", "TRIANGLE")],
    "shippingAddress": "Road 1",
}


async def serve(dsn: str, port: int) -> None:
    """Run the API until the process is ended."""
    settings = load_settings(role="web", postgres_dsn=dsn, web_port=port, db_pool_max=4)
    db = await Database.open(settings, application_name="bench-web")
    server = WebServer(lambda: Context(settings, db))
    await server.start()
    await asyncio.Event().wait()


class Sender:
    """Sends `rate` orders a second on a fixed schedule, whatever the answers do."""

    def __init__(self, url: str, rate: float, body: dict[str, Any], keys: bool) -> None:
        self._url, self._rate, self._keys = url, rate, keys
        self._body = json.dumps(body).encode()
        self.latencies_s: list[float] = []
        self.statuses: dict[int, int] = {}

    async def run(self, seconds: float) -> None:
        """Send for `seconds`, then wait for the answers."""
        connector = aiohttp.TCPConnector(limit=256)
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(self._url, connector=connector) as session:
            begin, tasks = loop.time(), []
            for number in range(int(self._rate * seconds)):
                due = begin + number / self._rate
                if (pause := due - loop.time()) > 0:
                    await asyncio.sleep(pause)
                tasks.append(asyncio.create_task(self._send(session, due)))
            await asyncio.gather(*tasks)

    async def _send(self, session: aiohttp.ClientSession, due: float) -> None:
        headers = {"Content-Type": "application/json"}
        if self._keys:
            headers["Idempotency-Key"] = os.urandom(12).hex()
        async with session.post("/api/orders", data=self._body, headers=headers) as answer:
            await answer.read()
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        self.latencies_s.append(asyncio.get_running_loop().time() - due)


async def measure(url: str, api: int, postgres: int, options: argparse.Namespace) -> dict[str, Any]:
    """Warm up, then load and return the figures."""
    body = ITEMS if options.items else AMOUNT
    await _until_ready(url)
    await Sender(url, options.rate, body, options.keys).run(WARM_UP_S)
    sender = Sender(url, options.rate, body, options.keys)
    before = cpu_s(api), cpu_s(postgres), time.monotonic()
    await sender.run(options.seconds)
    after = cpu_s(api), cpu_s(postgres), time.monotonic()
    accepted = sender.statuses.get(202, 0)
    latencies = sorted(sender.latencies_s)
    return {
        "rate": options.rate,
        "accepted": accepted,
        "accepted_per_s": round(accepted / (after[2] - before[2])),
        "statuses": sender.statuses,
        "api_us": round((after[0] - before[0]) / accepted * 1e6),
        "postgres_us": round((after[1] - before[1]) / accepted * 1e6),
        "sum_us": round((after[0] - before[0] + after[1] - before[1]) / accepted * 1e6),
        "p50_ms": round(latencies[len(latencies) // 2] * 1e3, 1),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1e3, 1),
        "keys": options.keys,
        "items": options.items,
    }


async def _until_ready(url: str) -> None:
    async with aiohttp.ClientSession(url) as session:
        for _ in range(200):
            try:
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    raise TimeoutError("the API did not become ready")


def main() -> None:
    """Run the bench, or with `--serve` its API process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--keys", action="store_true", help="send an Idempotency-Key")
    parser.add_argument("--items", action="store_true", help="order three products")
    parser.add_argument("--name", default="api", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--serve", nargs=2, metavar=("DSN", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve[0], int(options.serve[1])))
        return
    facts = machine.checked(force=options.force)
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        server = Postgres(Path(directory) / "postgres")
        server.start()
        upgrade(server.dsn)
        seed(server.dsn)
        port = free_port()
        command = [sys.executable, "-m", "bench.api", "--serve", server.dsn, str(port)]
        api = subprocess.Popen(command)
        try:
            url = f"http://127.0.0.1:{port}"
            found = uvloop.run(measure(url, api.pid, int(server.pid or 0), options))
        finally:
            api.terminate()
            api.wait(20)
            server.kill()
    body = report.table(list(found), [list(found.values())])
    report.write(options.name, "Accepted orders", {**facts, **found}, body)
    print("\n".join(body))


if __name__ == "__main__":
    main()
