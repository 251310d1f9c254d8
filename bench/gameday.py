"""How long a GameDay takes from its last phase to its report.

`python -m bench.gameday`: runs one experiment of `--duration` seconds `--repeat` times, each in a
lab of its own, because an audit reads all that a lab has ever done. When the steady state has come
back the load ends, the platform settles (last answers, sagas under way, the auditor's proof of
rest), the auditor reads and judges all books, and the report is written; each is a figure of the
journal. Bound: 10 s together, of every run, taken from outside: until the verdict stands in the
history. Ends with 1 when it is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.settings import load_settings
from bench import machine, report
from chaos.gameday import catalogue
from chaos.gameday.report.facts import ENDING
from chaos.gameday.run import prepare, run
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab

BOUND_S = 10.0
HEAD = ("run", "verdict", "orders", "settle s", "audit s", "report s", "from outside s", "")


def in_own_lab(options: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a fresh lab."""
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        lab = Lab.up(make_plan(load_settings(lab_dir=Path(directory))), detach=False)
        try:
            return measure(lab, options)
        finally:
            lab.down()


def measure(lab: Lab, options: argparse.Namespace) -> dict[str, Any]:
    """One GameDay: our part of its journal, and seconds from its last phase to its end."""
    experiment = catalogue.find(options.experiment).with_overrides(
        {"duration_s": options.duration, "rate_per_s": options.rate}
    )
    game = prepare(experiment, requested_by="bench", say=_tell, lab=lab)
    _, journal = run(game)
    ended_s = time.time() - game.timeline.began_s
    ours: dict[str, Any] = journal["x-symphony"]
    return {**ours, "outside_s": round(ended_s - last_phase_s(ours["phases"]), 2)}


def last_phase_s(phases: Sequence[Mapping[str, Any]]) -> float:
    """When the last phase of the experiment itself ended: the load ends then."""
    own = [one["ended_s"] for one in phases if one["name"] not in ENDING]
    return float(own[-1])


def row(number: int, ours: Mapping[str, Any]) -> list[Any]:
    """One run."""
    took = [ours[f"{name}_s"] for name in ENDING]
    kept = "kept" if ours["outside_s"] <= BOUND_S else "**not kept**"
    accepted = ours["load"]["accepted"]
    return [number, ours["verdict"], accepted, *took, ours["outside_s"], kept]


def _tell(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.gameday", description=__doc__)
    parser.add_argument("--experiment", default="kill-payment", help="a file or a name")
    parser.add_argument("--duration", type=float, default=120.0, help="seconds")
    parser.add_argument("--rate", type=float, default=20.0, help="orders per second")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--name", default="gameday", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    ran = [in_own_lab(options) for _ in range(options.repeat)]
    rows = [row(number, ours) for number, ours in enumerate(ran, 1)]
    body = report.table([*HEAD[:-1], f"<= {BOUND_S:g} s"], rows)
    body += ["", f"{options.experiment}, {options.duration:g} s, each run in a fresh lab."]
    keys = ("verdict", "reasons", "settle_s", "audit_s", "report_s", "outside_s", "phases", "load")
    facts["runs"] = [{key: ours[key] for key in keys} for ours in ran]
    report.write(options.name, "From a GameDay's last phase to its report", facts, body)
    print("\n".join(body))
    sys.exit(any(ours["outside_s"] > BOUND_S or ours["verdict"] != "passed" for ours in ran))


if __name__ == "__main__":
    main()
