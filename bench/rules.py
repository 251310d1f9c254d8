"""How soon a chaos rule is in force on all workers, and what chaos rules cost while there is none.

`python -m bench.rules`: starts a lab with two payment workers and changes a rule that is for every
consuming worker `--changes` times through the API, at rest and under `--rate` orders a second; an
answer counts when it says `enabled`. Before that it measures the CPU time that the product's own
functions take more because rules may stand in them (`bench.taps`), with no rule. Bounds: p95 1 s
from call to answer; 1 us a message. Ends with 1 when one is not kept. `--off` measures the CPU time
only, without a lab.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app.settings import load_settings
from bench import machine, report, taps
from chaos.console.api import Api
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic

BOUND_S = 1.0
BOUND_US = 1.0
RULE = {"fault": "delay", "params": {"min_ms": 0, "max_ms": 1}, "ttlS": 600, "reason": "bench"}


def change(api: Api, number: int) -> float:
    """Set the rule anew; seconds until every worker said that it has it."""
    began = time.monotonic()
    done = api.put("/api/chaos/rules/bench", {**RULE, "p": 0.001 * (1 + number % 9)})
    if not done["enabled"]:
        sys.exit(f"not in force everywhere: {done['pending']} did not say so")
    return time.monotonic() - began


def in_force(lab: Lab, changes: int, rate_per_s: float) -> dict[str, list[float]]:
    """Seconds from call to answer of each change, at rest and under load."""
    api = Api(target_of(lab).url)
    change(api, 0)  # the first one connects
    found = {"at rest": [change(api, number) for number in range(changes)]}
    with Traffic(target_of(lab), rate_per_s=rate_per_s, seed=1) as traffic:
        traffic.flow(int(3 * rate_per_s))
        name = f"at {rate_per_s:g} orders/s"
        found[name] = [change(api, number) for number in range(changes)]
    return found


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.rules", description=__doc__)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--rate", type=float, default=60.0, help="orders per second")
    parser.add_argument("--passes", type=int, default=400_000, help="messages of a run")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--off", action="store_true", help="measure the cost of no rules only")
    parser.add_argument("--name", default="rules", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    dear, body = cost(options, facts)
    late, lines = (False, []) if options.off else changes(options, facts)
    body = [*lines, *body]
    report.write(options.name, "Chaos rules: in force, and off", facts, body)
    print("\n".join(body))
    sys.exit(late or dear)


def changes(options: argparse.Namespace, facts: dict[str, Any]) -> tuple[bool, list[str]]:
    """Measure in a lab of its own: whether a bound is not kept, and the table."""
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(lab_dir=Path(directory))
        lab = Lab.up(make_plan(settings, workers={"payment": "2"}), detach=False)
        try:
            facts["processes"] = len(lab.status()["processes"])
            facts["seconds"] = in_force(lab, options.changes, options.rate)
        finally:
            lab.down()
    rows: list[list[Any]] = []
    late = False
    for kind, times in facts["seconds"].items():
        picked = report.percentiles(times, 1000)
        kept = (picked["p95"] or 0.0) <= BOUND_S * 1000
        late = late or not kept
        rows.append([kind, len(times), *picked.values(), "kept" if kept else "**not kept**"])
    head = ["a change in force on all workers", "changes", "p50 ms", "p95 ms", "p99 ms", "max ms"]
    body = report.table([*head, f"p95 <= {BOUND_S:g} s"], rows)
    return late, [*body, "", f"{facts['processes']} processes, servers included.", ""]


def cost(options: argparse.Namespace, facts: dict[str, Any]) -> tuple[bool, list[str]]:
    """Measure what no rules cost: whether the bound is not kept, and the table."""
    runs = facts["off_us"] = [taps.off_us(options.passes) for _ in range(options.repeat)]
    whole = [sum(run.values()) for run in runs]
    rows = [[name, *_spread([run[name] for run in runs])] for name in runs[0]]
    rows.append(["all, one message", *_spread(whole)])
    head = ["where rules may stand, without one", "CPU us a message more, median", "runs"]
    dear = statistics.median(whole) > BOUND_US
    kept = "**not kept**" if dear else "kept"
    return dear, [*report.table(head, rows), "", f"Bound: {BOUND_US:g} us a message: {kept}."]


def _spread(values: list[float]) -> list[str]:
    return [f"{statistics.median(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"]


if __name__ == "__main__":
    main()
