"""What an accepted order costs: CPU of the API process and of PostgreSQL, at a given rate.

`python -m bench.api --rate 500 --seconds 10 [--keys] [--items]`: starts a PostgreSQL and an API
process of its own, sends orders on an open schedule (latency counts from the intended send time)
writes bench/results/api-DATE. CPU counts both servers with all their children, not the sender.

A rate beyond what the API can do measures overload: how many are accepted and how many refused
with 503 per second, and how long each kind waits for its answer (`--name api-overload`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from app.db.engine import Database
from app.db.migrate import seed, upgrade
from app.settings import load_settings
from bench import machine, report
from bench.accounting import cpu_s
from bench.sender import Sender, Sent, raw
from chaos.lab.postgres import Postgres
from chaos.lab.process import free_port
from web.context import Context
from web.server import WebServer

WARM_UP_S = 2.0
CONNECTIONS_MAX = 1000
"""Enough that under overload an order waits in the API and not for a connection."""
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


def figures(sent: Sent) -> dict[str, Any]:
    """Return what became of the orders: rates, and latencies of the accepted and of the refused.

    Rates are over the time until the last answer, latencies in ms from when an order was due.
    """
    accepted, refused = ([one for one in sent.answers if one.status == n] for n in (202, 503))
    took_s = max(sent.ended_s, *(one.returned_s for one in sent.answers)) - sent.began_s
    latencies = {
        f"{name}_{share}_ms": value
        for name, answers in (("accepted", accepted), ("refused", refused))
        for share, value in report.percentiles(
            [one.returned_s - one.intended_s for one in answers], 1e3
        ).items()
    }
    return {
        "accepted": len(accepted),
        "accepted_per_s": round(len(accepted) / took_s),
        "refused": len(refused),
        "refused_per_s": round(len(refused) / took_s),
        "statuses": dict(Counter(one.status for one in sent.answers)),
        **latencies,
        "sender_late_ms": round(sent.late_ms, 1),
    }


async def send(port: int, seconds: float, options: argparse.Namespace) -> Sent:
    """Send orders on a fixed schedule, whatever the answers do."""
    body = json.dumps(ITEMS if options.items else AMOUNT).encode()
    orders = [
        raw(f"127.0.0.1:{port}", body, os.urandom(12).hex() if options.keys else "")
        for _ in range(int(options.rate * seconds))
    ]
    return await Sender("127.0.0.1", port, orders, options.rate, CONNECTIONS_MAX).run()


async def measure(
    port: int, api: int, postgres: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Warm up, then load and return the figures."""
    await _until_ready(f"http://127.0.0.1:{port}")
    await send(port, WARM_UP_S, options)
    before = cpu_s(api), cpu_s(postgres)
    found = figures(await send(port, options.seconds, options))
    used = cpu_s(api) - before[0], cpu_s(postgres) - before[1]
    each = [round(one / (found["accepted"] or 1) * 1e6) for one in (*used, sum(used))]
    return {
        "rate": options.rate,
        **found,
        **dict(zip(("api_us", "postgres_us", "sum_us"), each, strict=True)),
        "wait_max_ms": options.wait_max_ms,
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
    parser.add_argument(
        "--wait-max-ms", type=float, default=250, help="the setting api_queue_wait_max_ms"
    )
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
        bound = {"SYMPHONY_API_QUEUE_WAIT_MAX_MS": str(options.wait_max_ms)}
        api = subprocess.Popen(command, env={**os.environ, **bound})
        try:
            found = uvloop.run(measure(port, api.pid, int(server.pid or 0), options))
        finally:
            api.terminate()
            api.wait(20)
            server.kill()
    body = report.table(list(found), [list(found.values())])
    report.write(options.name, "Accepted orders", {**facts, **found}, body)
    print("\n".join(body))


if __name__ == "__main__":
    main()
