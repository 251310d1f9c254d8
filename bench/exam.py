"""How long after its beginning each fault is noticed: the alert exam of one GameDay after another.

Every experiment runs on one lab with Prometheus and Alertmanager, at the rules' lab scale (windows
60 times shorter). A detection time is from the fault's beginning to the first evaluation that found
its alert firing. Writes bench/results/exam-DATE; ends with 1 unless every exam was passed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.settings import load_settings
from bench import machine, report
from chaos.gameday import catalogue
from chaos.gameday.alerts import sentence
from chaos.gameday.game import GameDayError
from chaos.gameday.run import prepare, run
from chaos.gameday.source import Mistake
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.process import LabError

DEFAULT = (
    "slow-provider",
    "failing-provider",
    "consumer-lag",
    "kill-payment",
    "broker-restart",
    "poison-messages",
)
HEAD = (
    "experiment", "fault", "alert", "fired after s", "allowed s", "",
    "stopped after s", "allowed s", "",
)  # fmt: skip

Ran = tuple[str, Mapping[str, Any]]


def examine(lab: Lab, names: Sequence[str]) -> Iterable[Ran]:
    """Run each experiment; its name and what our part of its journal says.

    One that cannot begin is told and has an empty journal.
    """
    for name in names:
        print(f"== {name}", file=sys.stderr, flush=True)
        try:
            game = prepare(catalogue.shipped(name), requested_by="bench", say=_tell, lab=lab)
            _, journal = run(game)
        except (GameDayError, LabError) as error:
            print(error, file=sys.stderr)
            yield name, {}
        else:
            yield name, journal["x-symphony"]


def _tell(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def rows(ran: Sequence[Ran]) -> list[list[Any]]:
    """One row per expected alert, and one per alert that was wrong."""
    found: list[list[Any]] = []
    for name, ours in ran:
        exam = ours.get("exam") or {}
        for one in exam.get("rows", ()):
            found.append(
                [
                    name, one["fault"], one["name"],
                    one["detection_s"], one["within_s"], one["answer"],
                    one["resolved_after_s"], one["resolves_within_s"], one["ending"],
                ]
            )  # fmt: skip
        for one in exam.get("wrong", ()):
            at = f"at {one['from_s']:.1f}"
            found.append([name, None, one["name"], at, None, "wrong", None, None, ""])
    return found


def verdicts(ran: Sequence[Ran]) -> list[list[Any]]:
    """One row per experiment: verdict, exam, score."""
    return [
        [name, ours.get("verdict", "did not begin"), sentence(ours.get("exam") or {}) or "not sat"]
        for name, ours in ran
    ]


def known(text: str) -> list[str]:
    """Names of the catalogue, comma separated. Raises argparse.ArgumentTypeError."""
    names = [one.strip() for one in text.split(",") if one.strip()]
    for name in names:
        try:
            catalogue.shipped(name)
        except (GameDayError, Mistake) as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return names


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--experiments", type=known, default=list(DEFAULT), help="comma separated; default a choice"
    )
    parser.add_argument("--proxy", action="store_true", help="for experiments that need the proxy")
    parser.add_argument("--name", default="exam", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        settings = load_settings(
            lab_dir=Path(directory), lab_observe=True, lab_proxy=options.proxy or None
        )
        lab = Lab.up(make_plan(settings), detach=False)
        try:
            ran = list(examine(lab, options.experiments))
        finally:
            lab.down()
    body = [
        *report.table(("experiment", "verdict", "alert exam"), verdicts(ran)),
        "",
        *report.table(HEAD, rows(ran)),
    ]
    facts["experiments"] = {
        name: {key: ours.get(key) for key in ("verdict", "reasons", "faults", "knobs", "exam")}
        for name, ours in ran
    }
    report.write(options.name, "From a fault to its alert", facts, body)
    print("\n".join(body))
    passed = [(ours.get("exam") or {}).get("result") == "passed" for _, ours in ran]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
