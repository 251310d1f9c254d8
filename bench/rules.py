"""How soon a chaos rule is in force on all workers, and what chaos rules cost while there is none.

`python -m bench.rules`: starts a lab with two payment workers and changes a rule that is for every
consuming worker `--changes` times through the API, at rest and under `--rate` orders a second; an
answer counts when it says `enabled`. Then it measures the CPU time of what a message passes where
rules stand, with no rule. Bounds: p95 1 s from call to answer; 1 us a message. Ends with 1 when one
is not kept.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.settings import load_settings
from app.taps import Taps
from bench import machine, report
from chaos.console.api import Api
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic

BOUND_S = 1.0
BOUND_US = 1.0
RULE = {"fault": "delay", "params": {"min_ms": 0, "max_ms": 1}, "ttlS": 600, "reason": "bench"}
BATCH = 50
"""Messages of a batch: its one look at what it reads is shared by them."""


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


def _loop(passes: int, pass_by: Callable[[Taps], None], taps: Taps) -> float:
    began = time.process_time()
    for _ in range(passes):
        pass_by(taps)
    return (time.process_time() - began) / passes * 1e6


def _nothing(taps: Taps) -> None:
    del taps


def _message(taps: Taps) -> None:
    """What one message passes by itself: it is sent."""
    if taps.outgoing:
        raise AssertionError


def _batch(taps: Taps) -> None:
    """What a batch passes: one read, the topics of a poll, three round trips."""
    if taps.incoming or "payment.requested" in taps.paused:
        raise AssertionError
    for _ in range(3):
        if taps is not None and taps.statements:
            raise AssertionError


def off_us(passes: int) -> float:
    """CPU microseconds that one message costs more because rules could be made."""
    taps = Taps()
    nothing = _loop(passes, _nothing, taps)
    message, batch = _loop(passes, _message, taps), _loop(passes, _batch, taps)
    return max(0.0, message - nothing) + max(0.0, batch - nothing) / BATCH


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.rules", description=__doc__)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--rate", type=float, default=60.0, help="orders per second")
    parser.add_argument("--passes", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--name", default="rules", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    cost = [off_us(options.passes) for _ in range(options.repeat)]
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(lab_dir=Path(directory))
        lab = Lab.up(make_plan(settings, workers={"payment": "2"}), detach=False)
        try:
            workers = len(lab.status()["processes"])
            found = in_force(lab, options.changes, options.rate)
        finally:
            lab.down()
    rows: list[list[Any]] = []
    late = False
    for kind, times in found.items():
        picked = report.percentiles(times, 1000)
        kept = (picked["p95"] or 0.0) <= BOUND_S * 1000
        late = late or not kept
        rows.append([kind, len(times), *picked.values(), "kept" if kept else "**not kept**"])
    median = statistics.median(cost)
    head = ["a change in force on all workers", "changes", "p50 ms", "p95 ms", "p99 ms", "max ms"]
    off = (
        f"Without a rule a message costs {median:.3f} us of CPU more (median of {len(cost)} runs,"
        f" {min(cost):.3f} to {max(cost):.3f}; bound {BOUND_US:g} us)."
    )
    body = report.table([*head, f"p95 <= {BOUND_S:g} s"], rows)
    body += ["", f"{workers} processes, servers included.", "", off]
    facts |= {"seconds": found, "off_us": cost, "processes": workers}
    report.write(options.name, "Chaos rules: in force, and off", facts, body)
    print("\n".join(body))
    sys.exit(late or median > BOUND_US)


if __name__ == "__main__":
    main()
