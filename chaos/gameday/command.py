"""`symphony gameday`: run experiments, watch them, end them, and read what they found."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psycopg2
import typer

from app.cli import EXIT_DIFFERENCE, EXIT_USAGE, Failure, Json, print_json, print_table
from app.db.gamedays import RunRow
from app.settings import load_settings
from chaos.console.options import Operator, acting
from chaos.gameday import catalogue, lock
from chaos.gameday.book import NONE_YET, Book, names
from chaos.gameday.errors import GameDayError
from chaos.gameday.experiment import Experiment
from chaos.gameday.reference import asked
from chaos.gameday.report import facts, write_all
from chaos.gameday.run import prepare, run
from chaos.gameday.source import Mistake
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis.command import seconds
from chaos.workload.target import target_of

LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
Run = Annotated[str, typer.Argument(help="The beginning of a run's id; default the newest.")]
LIVE_S = 2.0
QUIET = frozenset({"audit", "report"})

gameday = typer.Typer(
    name="gameday",
    no_args_is_help=True,
    help="Experiments under load: guarded, rolled back, audited, reported.",
)


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
    root.add_typer(gameday)


@gameday.command("run")
def run_command(
    which: Annotated[str, typer.Argument(help="A file, or a name of the catalogue.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same plan.")] = None,
    duration: Annotated[
        str | None, typer.Option(help="How long faults happen, like 60s; default the file's.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Orders per second.")] = None,
    report_dir: Annotated[
        Path | None,
        typer.Option(help="Also write report.html, report.md and so on here."),
    ] = None,
    lab: Annotated[
        bool, typer.Option("--lab", help="Bring up a lab (with the proxy) for this and end it.")
    ] = False,
    observe: Annotated[
        bool, typer.Option("--observe", help="With --lab: with Prometheus, for the alert exam.")
    ] = False,
    operator: Operator = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Run an experiment on the running lab, or with --lab on one of its own, in the foreground.

    Ctrl-C aborts it: faults end, the lab recovers, the audit is made. Exit codes: 0 passed, 1
    failed, 2 inconclusive or it could not begin, 3 aborted.
    """

    def say(line: str) -> None:
        typer.echo(line, err=True)

    with _clearly():
        if observe and not lab:
            raise GameDayError("--observe needs --lab; a running lab is observed from its start on")
        by = acting(operator)
        overrides: dict[str, Any] = {"seed": seed, "rate_per_s": rate}
        if duration is not None:
            overrides["duration_s"] = seconds(duration, "--duration")
        experiment = _with_options(catalogue.find(which), overrides)
        with _lab(lab, lab_dir, say, observe=observe) as there:
            game = prepare(experiment, requested_by=by, say=say, lab=there)
            say(f"{experiment.title}\n  hypothesis: {experiment.ours.hypothesis}")
            game.monitor.on_sample = Ticker(say)
            found, journal = run(game)
    if report_dir is not None:
        write_all(report_dir, journal)
    if as_json:
        print_json(journal)
    else:
        typer.echo(facts.sentence(journal))
        typer.echo(f"report: {(report_dir or game.report_dir) / 'report.html'}")
    raise typer.Exit(found.exit_code)


def _with_options(found: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """The experiment as the options want it; a mistake there is none of the file."""
    try:
        return found.with_overrides(overrides)
    except Mistake as error:
        raise GameDayError(error.reason) from None


class Ticker:
    """One line every two seconds of what the guard saw."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._told_s = say, 0.0

    def __call__(self, sample: Mapping[str, Any]) -> None:
        """Tell it, unless it was told just now or nothing flows any more."""
        if time.monotonic() - self._told_s >= LIVE_S and sample["phase"] not in QUIET:
            self._told_s = time.monotonic()
            self._say(live(sample))


def live(sample: Mapping[str, Any]) -> str:
    """The live figures in one line."""

    def figure(name: str, unit: str = "") -> str:
        return "?" if sample[name] is None else f"{sample[name]:g}{unit}"

    faults = ", ".join(sample["faults"]) or "nothing broken"
    guard = f", guard {sample['bad_in_a_row']} bad" if sample["guarding"] else ""
    firing = f"; firing: {', '.join(sample['firing'])}" if sample.get("firing") else ""
    return (
        f"{sample['at_s']:6.1f} s    {figure('accepted_per_s', '/s')} accepted,"
        f" p95 {figure('p95_ms', ' ms')}, {figure('backlog')} under way,"
        f" {figure('stuck')} stuck{guard}; {faults}{firing}"
    )


@contextmanager
def _lab(own: bool, lab_dir: Path | None, say: Any, *, observe: bool) -> Iterator[Lab]:
    """The running lab, or one that is brought up for this and ended afterwards."""
    settings = load_settings(
        lab_dir=lab_dir, lab_proxy=True if own else None, lab_observe=observe or None
    )
    if not own:
        yield Lab(settings.lab_dir)
        return
    lab = Lab.up(make_plan(settings), detach=False, report=lambda line: say(f"  {line}"))
    try:
        yield lab
    finally:
        say("stopping the lab")
        lab.down()


@contextmanager
def _clearly() -> Iterator[None]:
    """What cannot begin is said in one line, with exit code 2."""
    logging.getLogger("chaostoolkit").setLevel(logging.CRITICAL)
    try:
        yield
    except (Mistake, GameDayError, LabError) as error:
        typer.echo(f"symphony gameday: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None


@contextmanager
def _plainly() -> Iterator[None]:
    """What cannot be answered is said in one line, with exit code 1."""
    try:
        yield
    except GameDayError as error:
        raise Failure(str(error)) from None
    except psycopg2.Error as error:
        why = " ".join(str(error).split())
        raise Failure(f"the lab's PostgreSQL does not answer: {why}") from None


@gameday.command("catalogue")
def catalogue_command(as_json: Json = False) -> None:
    """List the shipped experiments with their hypotheses and expected verdicts."""
    with _clearly():
        found = [catalogue.shipped(name) for name in catalogue.names()]
    rows: list[Mapping[str, Any]] = [
        {
            "name": one.name,
            "expected": one.ours.expected,
            "needs": ", ".join(one.ours.needs) or "-",
            "title": one.title,
        }
        for one in found
    ]
    if as_json:
        print_json([{**row, "hypothesis": one.ours.hypothesis, "scenario": one.ours.scenario}
                    for row, one in zip(rows, found, strict=True)])  # fmt: skip
    else:
        print_table(rows)


@gameday.command("validate")
def validate(
    which: Annotated[str, typer.Argument(help="A file, or a name of the catalogue.")],
    as_json: Json = False,
) -> None:
    """Check an experiment and print what it would do; a mistake is shown with its line."""
    with _clearly():
        found = catalogue.find(which)
    if as_json:
        print_json(plan_document(found))
        return
    typer.echo(f"{which}: valid; {found.title}")
    knobs = found.knobs
    typer.echo(
        f"seed {knobs.seed}, {knobs.rate_per_s:g} orders/s, {knobs.duration_s:g} s,"
        f" expected: {found.ours.expected}"
    )
    for strike in found.plan():
        what = ", ".join(f"{key} {value}" for key, value in strike.arguments.items() if key != "at")
        typer.echo(f"  {strike.begins_s:6.1f} s  {strike.name} ({what})")
    typer.echo(f"alert exam ({found.ours.exam}): {asked(found)}")


def plan_document(found: Experiment) -> dict[str, Any]:
    """What an experiment will do, as data."""
    return {
        "name": found.name,
        "title": found.title,
        "expected": found.ours.expected,
        "digest": found.digest,
        "knobs": msgspec.to_builtins(found.knobs),
        "plan": [{**one._asdict(), "arguments": dict(one.arguments)} for one in found.plan()],
    }


@gameday.command("ls")
def listing(
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 20,
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """List the GameDays of the running lab, newest first."""
    with _plainly():
        rows = _book(lab_dir).recent(limit)
    if as_json:
        print_json([_document(row) for row in rows])
        return
    if not rows:
        typer.echo(NONE_YET)
    print_table(
        [
            {
                "run": short,
                "began": (row.started_at or row.created_at).strftime("%Y-%m-%d %H:%M:%S"),
                "experiment": row.experiment,
                "state": row.verdict or row.status.lower(),
                "why": row.error[:100],
            }
            for short, row in zip(names(rows), rows, strict=True)
        ]
    )


@gameday.command("status")
def status(as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Say whether a GameDay goes on, and where it is."""
    with _plainly():
        row = _current(lab_dir)
    if as_json:
        print_json(_document(row) if row else None)
    elif row is None:
        typer.echo("no GameDay goes on")
    else:
        typer.echo(f"{row.experiment} ({row.id}): {row.status.lower()}, {row.phase or 'waiting'}")
        if row.progress and "at_s" in row.progress:
            typer.echo(live(row.progress))


@gameday.command("abort")
def abort(operator: Operator = "", lab_dir: LabDir = None) -> None:
    """Ask for the end of the GameDay that goes on; it ends its faults, recovers and is audited."""
    by = acting(operator)
    with _plainly():
        row = _current(lab_dir)
        if row is None or not _book(lab_dir).abort(row.id, by=by):
            raise Failure("no GameDay goes on")
    typer.echo(f"{row.experiment} ({row.id}) will end: `symphony gameday status`")


@gameday.command("report")
def report(
    which: Run = "",
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Write report.html and the other files here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the journal.")] = False,
    lab_dir: LabDir = None,
) -> None:
    """Print the report of a GameDay as Markdown, or write all its files."""
    from chaos.gameday.report.markdown import markdown

    with _plainly():
        book = _book(lab_dir)
        journal = book.journal(book.find(which).id)
    if directory is not None:
        write_all(directory, journal)
        typer.echo(f"report: {directory / 'report.html'}")
    elif as_json:
        print_json(journal)
    else:
        typer.echo(markdown(journal))


@gameday.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="The beginning of a run's id.")],
    second: Annotated[str, typer.Argument(help="The beginning of another run's id.")],
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Set two GameDays side by side: verdicts, figures, faults; 3 when the verdicts differ."""
    from chaos.gameday.report.comparison import differs, rows

    with _plainly():
        book = _book(lab_dir)
        both = [book.journal(book.find(which).id) for which in (first, second)]
    found = rows(*both)
    if as_json:
        print_json([{"figure": name, "first": one, "second": other} for name, one, other in found])
    else:
        print_table([{"": name, "first": one, "second": other} for name, one, other in found])
    if differs(*both):
        sys.stdout.flush()
        raise typer.Exit(EXIT_DIFFERENCE)


def _book(lab_dir: Path | None) -> Book:
    return Book(target_of(Lab(load_settings(lab_dir=lab_dir).lab_dir)).dsn)


def _current(lab_dir: Path | None) -> RunRow | None:
    root = load_settings(lab_dir=lab_dir).lab_dir
    return _book(lab_dir).current(partial(lock.held, root))


def _document(row: RunRow) -> dict[str, Any]:
    return row._asdict()
