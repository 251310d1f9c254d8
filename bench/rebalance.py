"""The rebalance ledger as a table: our core against stock Faust, the same faults at the same time.

`python -m bench.rebalance --rounds 50`: rounds of join, leave, kill -9, SIGSTOP past the session,
broker pause and broker kill -9 under load, an audit after each block, then `--kills` kills measured
from SIGKILL to the first effects on the dead worker's partitions. Writes the figures with command,
machine and date to bench/results/rebalance-DATE.md and .json, after every part. Takes some 30 s a
round.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import describe
from chaos.ledger.arena import Arena, temporary_directory
from chaos.ledger.campaign import Campaign, Plan, Result
from chaos.ledger.command import document
from chaos.ledger.faults import ALL_FAULTS
from chaos.ledger.stock import MODES
from chaos.ledger.takeover import Takeover, measure, percentile
from chaos.ledger.trial import Limits

RESULTS = Path(__file__).resolve().parent / "results"
SESSION_S = 10.0
TAKEOVER_BOUND_S = 5.0


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.rebalance", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="faults that must prove; 0 = none")
    parser.add_argument("--rate", type=float, default=200.0, help="events/s of our core")
    parser.add_argument("--stock", choices=("", *MODES), default="noack", help="'' = without")
    parser.add_argument("--stock-rate", type=float, default=120.0, help="events/s of stock Faust")
    parser.add_argument("--kills", type=int, default=20, help="takeovers to measure")
    parser.add_argument("--failpoints", default="", help="rules for our workers, see chaos.rules")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="rebalance", help="prefix of the result files")
    parser.add_argument("--keep", type=Path, help="keep logs and ledgers here")
    return parser.parse_args()


def say(line: str) -> None:
    """One line of progress."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def machine() -> str:
    """What this ran on, and how busy it was."""
    now = describe()
    return (
        f"{now['machine']}, load average {now['load_average'][1]:.1f}, calibration"
        f" {now['calibration_us']} us"
    )


def campaign(arguments: argparse.Namespace, directory: Path) -> list[Result]:
    """All rounds, ours and the control beside it on one broker."""
    rates = (arguments.rate, *((arguments.stock_rate,) if arguments.stock else ()))
    plan = Plan(
        rounds=arguments.rounds,
        faults=ALL_FAULTS,
        seed=arguments.seed,
        rates=rates,
        block=2 * len(ALL_FAULTS),
    )
    with Arena(directory / "rounds", Limits()) as arena:
        trials = [arena.probe(failpoints=arguments.failpoints)]
        if arguments.stock:
            trials.append(arena.stock(arguments.stock))
        return Campaign(trials, arena.broker, plan, say).run()


def takeovers(arguments: argparse.Namespace, directory: Path) -> list[Takeover]:
    """Kills in a group of its own, with the session timeout of the laboratory."""
    limits = Limits(session_timeout_s=SESSION_S)
    with Arena(directory / "takeover", limits) as arena:
        return measure(arena.probe(), arguments.kills, arguments.rate, say)


def rounds_table(results: list[Result]) -> list[str]:
    """One row per subject, then one row per fault kind."""
    head = (
        "| | rounds proven (void) | events | **lost** | **stuck** | effects doubled | duplicate"
        " deliveries | stage 2 without state | wrong table entries | recovery p50 / max s |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    for result in results:
        last = result.verdicts[-1]
        doubled = last.stage_1.doubled + last.stage_2.doubled
        recovered = [r.recovery_s for r in result.rounds if r.recovery_s is not None]
        never = len(result.rounds) - len(recovered)
        lines.append(
            f"| {result.subject} | {result.proven} ({result.void}) | {last.events} |"
            f" **{last.lost}** | **{last.stuck}** | {doubled} | {last.duplicates} |"
            f" {last.stage_2.without_state} | {last.table_wrong} |"
            f" {statistics.median(recovered):.1f} / {max(recovered):.1f}"
            f"{f', {never} never' if never else ''} |"
        )
    lines += ["", "| fault | " + " | ".join(f"{r.subject}: rounds, recovery p50 / max s"
                                            for r in results) + " |",
              "|---|" + "---|" * len(results)]  # fmt: skip
    for fault in ALL_FAULTS:
        cells = [_fault_cell(result, fault) for result in results]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return lines


def _fault_cell(result: Result, fault: str) -> str:
    rounds = [r for r in result.rounds if r.fault == fault]
    times = [r.recovery_s for r in rounds if r.recovery_s is not None]
    if not times:
        return f"{len(rounds)}, never"
    never = f", {len(rounds) - len(times)} never" if len(times) < len(rounds) else ""
    return f"{len(rounds)}, {statistics.median(times):.1f} / {max(times):.1f}{never}"


def takeover_lines(found: list[Takeover]) -> list[str]:
    """The percentiles, and whether they keep the bound."""
    lines = ["| kill -9 to new effects | p50 s | p95 s | max s |", "|---|---|---|---|"]
    for title, values in (
        ("first on any of the dead worker's partitions", [one.any_s for one in found]),
        ("first on every one of them", [one.every_s for one in found]),
    ):
        lines.append(
            f"| {title} | {percentile(values, 0.5):.2f} | {percentile(values, 0.95):.2f} |"
            f" {max(values):.2f} |"
        )
    kept = percentile([one.every_s for one in found], 0.95) <= TAKEOVER_BOUND_S
    verdict = (
        f"{len(found)} kills, session timeout {SESSION_S:g} s, dead workers evicted; bound p95 <="
        f" {TAKEOVER_BOUND_S:g} s: {'kept' if kept else '**not kept**'}."
    )
    return [*lines, "", verdict]


def write(
    arguments: argparse.Namespace, results: list[Result], found: list[Takeover], began: datetime
) -> Path:
    """Write what is known so far; the same files grow until the run has ended."""
    command = shlex.join(["python", "-m", "bench.rebalance", *sys.argv[1:]])
    facts: dict[str, Any] = {
        "command": command,
        "machine": machine(),
        "began": began.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(UTC) - began).total_seconds() / 60, 1),
        "subjects": [document(result) for result in results],
        "takeovers": [one.__dict__ for one in found],
    }
    lines = [
        f"# Rebalance ledger, {began:%Y-%m-%d}",
        "",
        f"`{command}`, {facts['minutes']} minutes. {facts['machine']}.",
        "",
        "Numbered events through two stages with a table, two workers, one broker for all; every",
        "fault proved its effect. *Lost*: offset committed, no effect. *Stuck*: neither.",
        "",
    ]
    if results:
        lines += [*rounds_table(results), ""]
        lines += [
            f"{r.subject}, last audit: {'; '.join(r.findings) or 'nothing found'}." for r in results
        ]
        lines.append("")
    if found:
        lines += takeover_lines(found)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{arguments.name}-{began:%Y-%m-%d}.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    return path


def main() -> None:
    """Run, write, and end with 1 when our core did not keep its promise."""
    arguments, began = options(), datetime.now(UTC)
    keep = arguments.keep.absolute() if arguments.keep else None
    results: list[Result] = []
    found: list[Takeover] = []
    with temporary_directory(keep) as directory:
        if arguments.rounds:
            results = campaign(arguments, directory)
            write(arguments, results, found, began)
        if arguments.kills:
            found = takeovers(arguments, directory)
    path = write(arguments, results, found, began)
    print(path.read_text())
    sys.exit(1 if results and results[0].findings else 0)


if __name__ == "__main__":
    main()
