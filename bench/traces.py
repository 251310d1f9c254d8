"""What tracing costs an order: labs without, with a few and with all traces recorded, in turn.

`python -m bench.traces`: each round starts one lab per variant, in an order that alternates, and
offers the same happy orders to each; what counts is the difference within a round, because the
machine's own speed changes between rounds. Writes bench/results/traces-DATE.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from bench import machine, orders, report
from chaos.lab.plan import LabFiles

OFF = "off"
BOUND = 0.10
"""Of an order's CPU: what all observability together may cost."""


class Variant(NamedTuple):
    """What is set in every worker."""

    name: str
    environment: tuple[str, ...]


def traced(ratio: float) -> tuple[str, ...]:
    """The settings that record so many traces into files."""
    return ("SYMPHONY_TRACE_EXPORTER=file", f"SYMPHONY_TRACE_SAMPLE_RATIO={ratio:g}")


VARIANTS = (
    Variant(OFF, ()),
    Variant("5 %", traced(0.05)),
    Variant("all", traced(1.0)),
)


def measure_one(variant: Variant, options: argparse.Namespace) -> dict[str, Any]:
    """A lab of its own under one load; its figures."""
    given = orders.parse(
        ["--rates", f"{options.rate:g}", "--seconds", f"{options.seconds:g}", "--drain", "0",
         "--idle", "0", "--warm-up", f"{options.warm_up:g}",
         *(word for one in variant.environment for word in ("--env", one))]
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with orders.running_lab(given, directory) as (lab, _):
            bench = orders.Bench(lab, given, directory)
            facts: dict[str, Any] = {"rates": [], "warnings": []}
            try:
                orders.measure(bench, given, facts, lambda: None)
            finally:
                bench.close()
            written = sum(
                path.stat().st_size for path in LabFiles(lab.files.root).traces.glob("*.jsonl")
            )
    (found,) = facts["rates"]
    return {
        "variant": variant.name,
        "warnings": facts["warnings"],
        "cpu_us_per_order": found["cpu_us_per_order"],
        "cpu_us": found["cpu_us"],
        "completed": found["completed"],
        "completed_per_s": found["completed_per_s"],
        "p50_ms": found["completed_ms"]["p50"],
        "p99_ms": found["completed_ms"]["p99"],
        "written_mb": round(written / 2**20, 2),
    }


def page(rounds: list[dict[str, dict[str, Any]]]) -> list[str]:
    """The table: medians, and the median of the differences to the same round's lab without."""
    rows = []
    for variant in VARIANTS:
        found = [one[variant.name] for one in rounds]
        more = [
            one[variant.name]["cpu_us_per_order"] / one[OFF]["cpu_us_per_order"] - 1
            for one in rounds
        ]
        middle = statistics.median(more)
        rows.append(
            [
                variant.name,
                round(statistics.median(one["cpu_us_per_order"] for one in found)),
                "-"
                if variant.name == OFF
                else f"{middle:+.1%} ({min(more):+.1%} to {max(more):+.1%})",
                "-" if variant.name == OFF else ("kept" if middle <= BOUND else "**not kept**"),
                statistics.median(one["p50_ms"] for one in found),
                statistics.median(one["p99_ms"] for one in found),
            ]
        )
    head = ["traces recorded", "CPU us per order", "more, paired", f"<= {BOUND:.0%}", "p50 ms",
            "p99 ms"]  # fmt: skip
    return report.table(head, rows)


def main() -> None:
    """Measure, write, print; the result files grow with every round."""
    parser = argparse.ArgumentParser(prog="python -m bench.traces", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200.0, help="orders/s")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--warm-up", type=float, default=6.0, help="seconds at 200/s")
    parser.add_argument("--name", default="traces", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(options.rounds):
        turn = VARIANTS if number % 2 == 0 else VARIANTS[::-1]
        found = {}
        for variant in turn:
            orders.say(f"round {number + 1}: traces {variant.name}")
            found[variant.name] = measure_one(variant, options)
            facts["warnings"] += found[variant.name]["warnings"]
        rounds.append(found)
        facts["rounds"] = rounds
        report.write(options.name, "The cost of traces", facts, page(rounds))
    print("\n".join(page(rounds)))


if __name__ == "__main__":
    main()
