"""How long a worker's kill -9 keeps its work from being done: the whole platform, under load.

Every role's worker is killed in turn by the nemesis, one at a time, while orders of every class
flow. Recovery is the time from the blow to the first new effect that needed the victim, by
PostgreSQL's books (chaos.nemesis.recovery); role dlq is left out, because it works only after a
failure. In the end the auditor judges all of it. Writes bench/results/kills-DATE; ends with 1
unless the audit holds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from app.settings import load_settings
from bench import machine, report
from chaos.audit import run_audit
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.nemesis.engine import Action, Nemesis
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic

FAULT = "kill"
ROLES = ("orchestrator", "payment", "inventory", "shipping", "relay", "web")
WARM_ORDERS = 60


def kill_all(lab: Lab, rounds: int, rate_per_s: float) -> dict[str, list[float]]:
    """Kill every role's worker `rounds` times; seconds to recovery by role.

    Raises SystemExit for a kill that was not proved or whose recovery was not seen.
    """
    found: dict[str, list[float]] = defaultdict(list)
    nemesis = Nemesis(lab)
    with Traffic(target_of(lab), rate_per_s=rate_per_s, seed=1) as traffic:
        traffic.flow(WARM_ORDERS)
        for number in range(rounds * len(ROLES)):
            role = ROLES[number % len(ROLES)]
            done = nemesis.run(Action(FAULT, f"{role}-1"))
            if not done.proved or done.recovered_s is None:
                sys.exit(f"kill of {role}: {done.outcome}, {done.detail}")
            found[role].append(done.recovered_s)
            print(f"{role} works again after {done.recovered_s:.2f} s", file=sys.stderr, flush=True)
            traffic.flow(int(rate_per_s))
    return found


def rows(found: dict[str, list[float]]) -> list[list[Any]]:
    """One row a role, and one over all."""
    every = [one for times in found.values() for one in times]
    return [
        [role, len(times), *report.percentiles(times).values()]
        for role, times in [*found.items(), ("all", every)]
    ]


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5, help="kills of each role")
    parser.add_argument("--rate", type=float, default=60.0, help="orders per second")
    parser.add_argument("--name", default="kills", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        lab = Lab.up(make_plan(load_settings(lab_dir=Path(directory))), detach=False)
        try:
            found = kill_all(lab, options.rounds, options.rate)
            target = target_of(lab)
            audited = run_audit(target, target.ledgers())
        finally:
            lab.down()
    head = ["role", "kills", "p50 s", "p95 s", "p99 s", "max s"]
    body = [*report.table(head, rows(found)), "", audited.sentence]
    facts |= {"recovered_s": found, "orders": audited.document["orders"], "audit": audited.sentence}
    report.write(options.name, "From kill -9 to the first new effect", facts, body)
    print("\n".join(body))
    sys.exit(audited.exit_code != 0)


if __name__ == "__main__":
    main()
