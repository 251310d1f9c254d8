"""`symphony campaign`: many runs of seeded random faults, resumable, one table at the end."""

from __future__ import annotations

import itertools
import os
import platform
import shlex
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from app.roles import ROLES
from app.settings import load_settings
from chaos.audit import AuditFailed
from chaos.campaign.book import (
    CampaignBook,
    CampaignSettings,
    OtherCampaign,
    RunResult,
    Uncovered,
)
from chaos.campaign.plan import plan_run
from chaos.campaign.run import Interrupted, Say, run
from chaos.campaign.table import markdown, text, totals
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis.engine import TROUBLE, Cell, Nemesis
from chaos.nemesis.faults import REGISTRY
from chaos.workload.traffic import TrafficFailed

EXIT_VIOLATED, EXIT_UNKNOWN, EXIT_INTERRUPTED = 1, 2, 130
#: Roles whose workers share the work; every second lab has two of each.
SCALED = ("relay", *(role.name for role in ROLES.values() if role.consumes and role.standard))
SYMPHONY = ".venv/bin/symphony campaign"
#: What ends a run before its verdict.
NO_VERDICT = (*TROUBLE, TrafficFailed, AuditFailed)


def register(root: typer.Typer) -> None:
    """Add `symphony campaign`."""
    root.command("campaign")(campaign)


def campaign(
    *,
    runs: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs.")] = 5,
    faults: Annotated[int, typer.Option(min=1, max=100, help="Faults in each run.")] = 10,
    orders: Annotated[
        int, typer.Option(min=50, max=100_000, help="Orders in each run, at least.")
    ] = 2_000,
    rate: Annotated[float, typer.Option(min=1, max=1_000, help="Orders per second.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Same seed, same faults and orders.")] = 1,
    only_run: Annotated[
        int | None, typer.Option("--run", min=0, help="Only this run, anew, in a place of its own.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this fault; repeatable.")
    ] = None,
    fresh_every: Annotated[
        int, typer.Option(min=1, max=1_000, help="Runs that share one lab.")
    ] = 5,
    proxy: Annotated[
        bool, typer.Option(help="Put the TCP proxy in front of servers: network faults.")
    ] = True,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where book and labs are; resumes what is there.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the table here as Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all runs as JSON.")] = False,
) -> None:
    """Break everything at random, under load, again and again, and audit after every run.

    Exit codes: 0 every run holds, 1 one is violated, 2 one proves nothing or came to no verdict,
    130 interrupted (the same command goes on where it ended; --run begins anew).
    """
    settings = CampaignSettings(
        seed=seed, faults=faults, rate=rate, fresh_every=fresh_every, proxy=proxy,
        only=sorted(only or ()),
    )  # fmt: skip
    place = directory or Path(f".campaign-{seed}")
    if only_run is not None:
        place = _unused(place / f"again-{only_run}")
    numbers = [only_run] if only_run is not None else list(range(runs))
    try:
        if unknown := set(settings.only) - REGISTRY.keys():
            raise LabError(f"unknown fault {sorted(unknown)}; known: {', '.join(REGISTRY)}")
        book = CampaignBook(place, settings)
        done = _Campaign(book, settings, orders, lambda line: typer.echo(line, err=True))
        ended = done.run(numbers)
        found = [one for one in book.runs() if one.number in numbers]
    except (LabError, NoVerdict, OtherCampaign, OSError, msgspec.MsgspecError, ValueError) as error:
        typer.echo(f"symphony campaign: {_said(error)}", err=True)
        raise typer.Exit(EXIT_UNKNOWN) from None
    options = _options(settings, orders, directory)
    replay = f"{SYMPHONY} --run {{number}} {options}"
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        typer.echo(text(found, replay))
    if report is not None:
        which = f"--runs {runs}" if only_run is None else f"--run {only_run}"
        date = datetime.now(UTC).date().isoformat()
        command = f"{SYMPHONY} {which} {options}"
        report.write_text(markdown(found, replay, command, _machine(), date))
    raise typer.Exit(_exit_code(found) if ended else EXIT_INTERRUPTED)


class NoVerdict(Exception):
    """A run ended before its verdict, so it proves nothing; the text says which and why."""


class _LabOf(NamedTuple):
    number: int
    lab: Lab
    cells: list[Cell]


class _Campaign:
    """The runs that are still to be done, each in the lab of its number."""

    def __init__(
        self, book: CampaignBook, settings: CampaignSettings, orders: int, say: Say
    ) -> None:
        self._book, self._settings, self._orders, self._say = book, settings, orders, say
        self._stop = threading.Event()
        self._lab: _LabOf | None = None

    def run(self, numbers: Sequence[int]) -> bool:
        """Do what the book does not hold yet; False when it was interrupted. Raises NoVerdict and,
        for a lab that does not end, LabError.
        """
        finished = {one.number for one in self._book.runs()}
        with _signals(self._interrupt):
            try:
                for number in numbers:
                    if number not in finished:
                        self._do(number)
            except Interrupted:
                self._say("interrupted; the same command goes on here")
                return False
            finally:
                self._leave_lab()
        return True

    def _do(self, number: int) -> None:
        """One run into the book; the lab of one that does not hold is left and kept."""
        try:
            result = self._one(number)
        except NO_VERDICT as error:
            self._leave_lab(failed_run=number)
            raise NoVerdict(f"run {number} came to no verdict: {_said(error)}") from error
        self._book.append(result)
        self._say(_line(result))
        if result.result != "holds":
            self._leave_lab(failed_run=number)

    def _interrupt(self) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._say("ending the faults and the lab; once more to end at once")
        self._stop.set()

    def _one(self, number: int) -> RunResult:
        at = self._lab_for(number // self._settings.fresh_every)
        plan = plan_run(self._settings.seed, number, at.cells, self._settings.faults)
        self._say(f"run {number}, seed {plan.seed}: {len(plan.actions)} faults")
        result = run(
            at.lab,
            plan,
            lab_number=at.number,
            rate=self._settings.rate,
            orders=self._orders,
            report_dir=self._book.directory,
            stop=self._stop,
            say=lambda line: self._say(f"  {line}"),
        )
        return msgspec.structs.replace(result, not_covered=_not_covered(at.cells, result))

    def _lab_for(self, number: int) -> _LabOf:
        if self._stop.is_set():
            raise Interrupted
        if self._lab is not None and self._lab.number == number:
            return self._lab
        self._leave_lab()
        directory = (self._book.directory / f"lab-{number}").absolute()
        self._clear(directory, number)
        directory.mkdir(mode=0o755, parents=True)
        settings = load_settings(lab_dir=directory, lab_proxy=self._settings.proxy)
        lab = Lab.up(make_plan(settings), detach=False)
        self._lab = _LabOf(number, lab, [])
        if number % 2:
            for role in SCALED:
                lab.scale(role, 2)
        cells = [cell for cell in Nemesis(lab).matrix()
                 if not self._settings.only or cell.fault in self._settings.only]  # fmt: skip
        self._lab = _LabOf(number, lab, cells)
        return self._lab

    def _clear(self, directory: Path, number: int) -> None:
        """Make room for lab `number`; what a killed campaign left of a failed run is kept."""
        failed = [one.number for one in self._book.runs()
                  if one.lab == number and one.result != "holds"]  # fmt: skip
        if failed and directory.exists():
            self._keep(directory, failed[-1])
        shutil.rmtree(directory, ignore_errors=True)

    def _leave_lab(self, *, failed_run: int | None = None) -> None:
        """End the lab, if there is one; its files stay when they are evidence."""
        if self._lab is None:
            return
        lab, self._lab = self._lab.lab, None
        lab.down()
        if failed_run is not None:
            self._keep(lab.files.root, failed_run)
        shutil.rmtree(lab.files.root, ignore_errors=True)

    def _keep(self, root: Path, failed_run: int) -> None:
        """Move a lab that has ended to where no other one will be, all of its files with it."""
        data = root / "postgres" / "data"
        if data.is_symlink():  # the server's files lie where an ordinary user reaches them
            outside = data.resolve()
            data.unlink()
            if outside.exists():
                shutil.move(outside, data)
        kept = _unused(root.with_name(f"{root.name}-run-{failed_run}"))
        root.rename(kept)
        self._say(f"the lab of run {failed_run} is kept in {kept}")


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `interrupt`, until the context is left."""
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, lambda *_: interrupt()) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def _unused(path: Path) -> Path:
    """`path`, or with the first number behind it that makes a name without a file."""
    names = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], names) if not one.exists())


def _not_covered(cells: Sequence[Cell], result: RunResult) -> list[Uncovered]:
    """What could not be done when the lab began, or when it was dealt."""
    reasons = {(cell.fault, cell.target): cell.reason for cell in cells if cell.reason}
    reasons |= {(one.fault, one.target): one.detail for one in result.injections
                if one.outcome == "skipped"}  # fmt: skip
    return [
        Uncovered(fault=fault, target=target, reason=reason)
        for (fault, target), reason in sorted(reasons.items())
    ]


def _said(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(str(getattr(error, "detail", "") or error).split()) or type(error).__name__


def _line(one: RunResult) -> str:
    proved = sum(injected.outcome == "proved" for injected in one.injections)
    odd = sum(injected.expired or bool(injected.after_failed) for injected in one.injections)
    return (
        f"run {one.number}: {one.result}, {one.accepted:,} orders, {proved} of"
        f" {len(one.injections)} faults proved, {one.seconds:.0f} s"
    ) + (f"; {odd} did not end in good order" if odd else "")


def _options(settings: CampaignSettings, orders: int, directory: Path | None) -> str:
    told = (
        f"--seed {settings.seed} --faults {settings.faults} --orders {orders}"
        f" --rate {settings.rate:.15g} --fresh-every {settings.fresh_every}"
    )
    told += "" if settings.proxy else " --no-proxy"
    told += "".join(f" --only {name}" for name in settings.only)
    return told + (f" --dir {shlex.quote(str(directory))}" if directory else "")


def _exit_code(found: Sequence[RunResult]) -> int:
    sums = totals(found)
    if sums.violated:
        return EXIT_VIOLATED
    return EXIT_UNKNOWN if sums.unknown or not sums.proved else 0


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
