"""How long after its beginning each fault is noticed: the alert exam of one GameDay after another.

Experiments run in turn on one lab with Prometheus and Alertmanager, at the rules' lab scale
(windows 60 times shorter); those that need the proxy have a lab of their own. What does not begin,
breaks or fails is told, and the next one follows; a lab that died is started anew. A detection time
is from the fault's beginning to the first evaluation that found its alert firing. Writes
bench/results/exam-DATE after every experiment; ends with 1 unless every exam was passed, with 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.settings import load_settings
from app.slo.panes import WINDOWS_S
from bench import machine, report
from chaos.console.api import Api
from chaos.gameday import catalogue
from chaos.gameday.alerts import sentence
from chaos.gameday.errors import GameDayError
from chaos.gameday.report.facts import exam_mark
from chaos.gameday.run import prepare, run
from chaos.gameday.source import Mistake
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.observe.alert import HOUR_S
from chaos.observe.alerts_on_orders import BURN_ALERTS
from chaos.observe.reader import Prometheus, Unreadable
from chaos.workload.target import target_of

DEFAULT = (
    "slow-provider",
    "failing-provider",
    "consumer-lag",
    "broker-restart",
    "poison-messages",
)
ALL = "all"
HEAD = (
    "experiment", "fault", "alert", "fired after s", "allowed s",
    "stopped after s", "allowed s", "mark",
)  # fmt: skip
QUIET_S, LOOK_S = 90.0, 2.0
"""How long the alerts that an experiment asks about may still fire for the one before it."""
LONG = frozenset(name for name, one in BURN_ALERTS.items() if WINDOWS_S[one.long] > HOUR_S)
"""Alerts over so long a while that a good past keeps them silent: asked of a new lab."""
INTERRUPTED = 130

Ran = tuple[str, Mapping[str, Any]]


def turns(names: Iterable[str]) -> list[tuple[bool, list[str]]]:
    """Whether a lab has the proxy, and what runs there in turn: the plain lab first, and in each
    lab first what asks for an alert over a long while.
    """
    found: dict[bool, list[str]] = {False: [], True: []}
    for name in names:
        found["proxy" in catalogue.shipped(name).ours.needs].append(name)
    return [
        (proxy, sorted(some, key=asks_long, reverse=True)) for proxy, some in found.items() if some
    ]


def asks_long(name: str) -> bool:
    """Whether an experiment expects an alert that needs a bad past."""
    return any(one.name in LONG for one in catalogue.shipped(name).ours.alerts or ())


class Labs:
    """The lab of the present turn, started when it is needed and again when it died."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lab: Lab | None = None
        self._started = 0

    def of(self, *, proxy: bool) -> Lab:
        """The running lab. Raises LabError."""
        if self._lab is None or not self._lab.running():
            self.down()
            self._started += 1
            root = self._directory / f"lab-{self._started}"
            root.mkdir(mode=0o755)
            settings = load_settings(lab_dir=root, lab_observe=True, lab_proxy=proxy or None)
            self._lab = Lab.up(make_plan(settings), detach=False)
        return self._lab

    def down(self) -> None:
        """End it, if there is one."""
        lab, self._lab = self._lab, None
        if lab is not None:
            lab.down()


def examine(names: Sequence[str], labs: Labs) -> Iterator[Ran]:
    """Run each experiment; its name and what our part of its journal says.

    One that cannot begin or breaks is told, and its journal says why. Raises KeyboardInterrupt.
    """
    began, number = time.monotonic(), 0
    for proxy, turn in turns(names):
        for name in turn:
            _tell_progress(name, number, len(names), time.monotonic() - began)
            number += 1
            try:
                found = _sit(labs.of(proxy=proxy), name)
            except Exception as error:  # whatever it is, the next one may do
                print(f"  {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                found = {"verdict": "did not end", "reasons": [str(error)]}
            yield name, found
        labs.down()


def _sit(lab: Lab, name: str) -> Mapping[str, Any]:
    """One experiment, once what the one before it left behind is put away, and the alerts that it
    asks about are quiet."""
    experiment = catalogue.shipped(name)
    _put_letters_away(Api(target_of(lab).url))
    _quiet(lab, experiment.ours.sheet.asked if experiment.ours.sheet else frozenset())
    began = time.monotonic()
    game = prepare(experiment, requested_by="bench", say=_tell, lab=lab)
    _, journal = run(game)
    if game.aborted.startswith("SIG"):  # Ctrl-C came, and the GameDay has ended itself
        raise KeyboardInterrupt
    return {**journal["x-symphony"], "took_s": round(time.monotonic() - began, 1)}


def _put_letters_away(api: Api) -> None:
    """Discard every open dead letter: those that wait long would be taken for a fault's doing.
    Raises ApiError."""
    for topic in api.get("/api/dlq/topics")["topics"]:
        if topic["open"]:
            _tell(f"{topic['open']} dead letters of {topic['topic']} are put away")
            path = f"/api/dlq/{topic['topic']}/discard"
            api.post(path, {"reason": "left by an earlier experiment"}, {"X-Operator": "bench"})


def _quiet(lab: Lab, names: frozenset[str]) -> None:
    """Wait until none of these alerts fires; what still does is told, and marked as such."""
    prometheus = Prometheus(lab.status()["observe"]["prometheus"]["url"])
    deadline = time.monotonic() + QUIET_S
    while True:
        try:
            found = {one.name for one in prometheus.alerts() if one.state == "firing"} & names
        except Unreadable as error:
            found = {str(error)}
        if not found or time.monotonic() > deadline:
            break
        time.sleep(LOOK_S)
    if found:
        _tell(f"still firing from before: {', '.join(sorted(found))}")


def _tell_progress(name: str, done: int, whole: int, took_s: float) -> None:
    left = f", about {took_s / done * (whole - done) / 60:.0f} min left" if done else ""
    print(f"== {done + 1} of {whole}: {name}{left}", file=sys.stderr, flush=True)


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
                    name, one["fault"], one["name"], one["detection_s"], one["within_s"],
                    one["resolved_after_s"], one["resolves_within_s"], exam_mark(one),
                ]
            )  # fmt: skip
        for one in exam.get("wrong", ()):
            at = f"at {one['from_s']:.1f}"
            found.append([name, None, one["name"], at, None, None, None, "unexpected"])
    return found


def verdicts(ran: Sequence[Ran]) -> list[list[Any]]:
    """One row per experiment: verdict, exam, how long it took."""
    return [
        [
            name,
            ours.get("verdict"),
            sentence(ours.get("exam") or {}) or "not sat",
            ours.get("took_s"),
        ]
        for name, ours in ran
    ]


def known(text: str) -> list[str]:
    """Names of the catalogue, comma separated, or all. Raises argparse.ArgumentTypeError."""
    names = [one.strip() for one in text.split(",") if one.strip()]
    if names == [ALL]:
        return catalogue.names()
    for name in names:
        try:
            catalogue.shipped(name)
        except (GameDayError, Mistake) as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    if not names or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError("name at least one experiment, and each once")
    return names


def publish(name: str, facts: Mapping[str, Any], ran: Sequence[Ran]) -> list[str]:
    """Write both result files of what has been run; returns the tables."""
    body = [
        *report.table(("experiment", "verdict", "alert exam", "took s"), verdicts(ran)),
        "",
        *report.table(HEAD, rows(ran)),
    ]
    keys = ("verdict", "reasons", "faults", "knobs", "exam", "took_s")
    experiments = {one: {key: ours.get(key) for key in keys} for one, ours in ran}
    report.write(name, "From a fault to its alert", {**facts, "experiments": experiments}, body)
    return body


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--experiments",
        type=known,
        default=list(DEFAULT),
        help="comma separated, or all; default a choice",
    )
    parser.add_argument("--name", default="exam", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    ran: list[Ran] = []
    body: list[str] = []
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        labs = Labs(Path(directory))
        try:
            for one in examine(options.experiments, labs):
                ran.append(one)
                body = publish(options.name, facts, ran)
        except KeyboardInterrupt:
            print("broken off: the results hold what was run before", file=sys.stderr)
            sys.exit(INTERRUPTED)
        finally:
            labs.down()
    print("\n".join(body))
    passed = [(ours.get("exam") or {}).get("result") == "passed" for _, ours in ran]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
