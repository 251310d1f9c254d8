"""What a scrape costs the worker that is scraped.

`python -m bench.scrape`: starts a lab, sends `--orders` orders of every kind, then asks every
worker `--scrapes` times for its metrics, as Prometheus does (OpenMetrics), and takes the CPU time
that the worker used; what it uses by itself in the same time is subtracted. With the references'
names (`metrics_aliases`) and without. Bound: 20 ms a scrape. Ends with 1 when it is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from app.settings import load_settings
from bench import machine, report
from bench.accounting import Processes, health_port
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic

BOUND_MS = 20.0
ACCEPT = "application/openmetrics-text; version=1.0.0"
SETTLE_S = 15.0
FLOW_S = 60.0


class Cost(NamedTuple):
    """One worker's scrape."""

    worker: str
    cpu_ms: float
    wall_ms: float
    kilobytes: float
    series: int


def ask(port: int) -> bytes:
    """One scrape."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=30) as answer:
        body: bytes = answer.read()
    return body


def cpu_s(process: psutil.Process) -> float:
    """What the process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def cost_of(worker: str, pid: int, scrapes: int) -> Cost | None:
    """CPU of `scrapes` scrapes less what the worker used in as much time without one."""
    port = health_port(pid)
    if not port:
        return None
    process, body = psutil.Process(pid), ask(port)
    before_s, began_s = cpu_s(process), time.monotonic()
    for _ in range(scrapes):
        body = ask(port)
    used_s, lasted_s = cpu_s(process) - before_s, time.monotonic() - began_s
    before_s = cpu_s(process)
    time.sleep(max(1.0, lasted_s))
    alone_s = (cpu_s(process) - before_s) * lasted_s / max(1.0, lasted_s)
    return Cost(
        worker,
        (used_s - alone_s) / scrapes * 1000,
        lasted_s / scrapes * 1000,
        len(body) / 1024,
        sum(not line.startswith(b"#") for line in body.splitlines()),
    )


def measured(orders: int, rate_per_s: float, scrapes: int, *, aliases: bool) -> list[Cost]:
    """The costs of one lab's workers after `orders` orders."""
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(lab_dir=Path(directory))
        wanted = {"SYMPHONY_METRICS_ALIASES": str(aliases).lower()}
        lab = Lab.up(make_plan(settings, workers={}, environment=wanted), detach=False)
        try:
            with Traffic(target_of(lab), rate_per_s=rate_per_s, seed=1) as traffic:
                traffic.flow(orders, timeout_s=FLOW_S + 4 * orders / rate_per_s)
            time.sleep(SETTLE_S)
            pids = Processes(lab.status()).pids
            found = [cost_of(name, pid, scrapes) for name, pid in pids.items()]
        finally:
            lab.down()
    return [one for one in found if one is not None]


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.scrape", description=__doc__)
    parser.add_argument("--orders", type=int, default=600)
    parser.add_argument("--rate", type=float, default=30.0, help="orders per second")
    parser.add_argument("--scrapes", type=int, default=100)
    parser.add_argument("--name", default="scrape", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    rows: list[list[Any]] = []
    kept = True
    for aliases in (True, False):
        costs = measured(options.orders, options.rate, options.scrapes, aliases=aliases)
        kept = kept and bool(costs) and all(one.cpu_ms <= BOUND_MS for one in costs)
        facts[f"aliases_{aliases}"] = [one._asdict() for one in costs]
        rows += [
            [one.worker, "with" if aliases else "without", *(round(x, 1) for x in one[1:])]
            for one in costs
        ]
    head = ["worker", "aliases", "CPU ms", "wall ms", "KB", "series"]
    body = report.table(head, rows)
    body += ["", f"Bound: {BOUND_MS:g} ms of CPU a scrape: {'kept' if kept else '**not kept**'}."]
    report.write(options.name, "A scrape", facts, body)
    print("\n".join(body))
    sys.exit(not kept)


if __name__ == "__main__":
    main()
