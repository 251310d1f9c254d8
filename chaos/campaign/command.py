"""`symphony campaign`: many runs of seeded random faults, resumable, one table at the end."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from app.settings import load_settings
from chaos.campaign.book import CampaignBook, CampaignSettings, OtherCampaign, RunResult
from chaos.campaign.plan import plan_run
from chaos.campaign.run import Interrupted, Say, run
from chaos.campaign.table import markdown, text, totals
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis.engine import Cell, Nemesis
from chaos.nemesis.faults import REGISTRY

EXIT_VIOLATED, EXIT_UNKNOWN, EXIT_INTERRUPTED = 1, 2, 130
#: Roles that may have several workers; every second lab has two of each.
SCALED = ("orchestrator", "payment", "inventory", "shipping", "relay")


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
        int | None, typer.Option("--run", min=0, help="Only this run of the campaign.")
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

    Exit codes: 0 every run holds, 1 one is violated, 2 one proves nothing, 130 interrupted (the
    same command goes on where it ended).
    """
    settings = CampaignSettings(
        seed=seed, faults=faults, rate=rate, fresh_every=fresh_every, proxy=proxy,
        only=sorted(only or ()),
    )  # fmt: skip
    place = directory or Path(f".campaign-{seed}")
    try:
        if unknown := set(settings.only) - REGISTRY.keys():
            raise LabError(f"unknown fault {sorted(unknown)}; known: {', '.join(REGISTRY)}")
        book = CampaignBook(place, settings)
        done = _Campaign(book, settings, orders, lambda line: typer.echo(line, err=True))
        numbers = [only_run] if only_run is not None else list(range(runs))
        ended = done.run(numbers)
    except (LabError, OtherCampaign, OSError, msgspec.MsgspecError, ValueError) as error:
        typer.echo(f"symphony campaign: {getattr(error, 'detail', '') or error}", err=True)
        raise typer.Exit(EXIT_UNKNOWN) from None
    found = [one for one in book.runs() if one.number in numbers]
    replay = f"symphony campaign --run {{number}} {_options(settings, orders)}"
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        typer.echo(text(found, done.skipped, replay))
    if report is not None:
        command = f"symphony campaign --runs {runs} {_options(settings, orders)}"
        date = datetime.now(UTC).date().isoformat()
        report.write_text(markdown(found, done.skipped, command, _machine(), date))
    raise typer.Exit(_exit_code(found) if ended else EXIT_INTERRUPTED)


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
        self.skipped: list[str] = []

    def run(self, numbers: Sequence[int]) -> bool:
        """Do what the book does not hold yet; False when it was interrupted."""
        finished = {one.number for one in self._book.runs()}
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: self._interrupt())
        try:
            for number in numbers:
                if number in finished:
                    continue
                result = self._one(number)
                self._book.append(result)
                self._say(_line(result, len(numbers)))
                if result.result != "holds":
                    self._leave_lab(keep=True)
        except Interrupted:
            self._say("interrupted; the same command goes on here")
            return False
        finally:
            self._leave_lab(keep=False)
        return True

    def _interrupt(self) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self._say("ending the faults and the lab; once more to end at once")
        self._stop.set()

    def _one(self, number: int) -> RunResult:
        at = self._lab_for(number // self._settings.fresh_every)
        plan = plan_run(self._settings.seed, number, at.cells, self._settings.faults)
        self._say(f"run {number}, seed {plan.seed}: {len(plan.actions)} faults")
        return run(
            at.lab,
            plan,
            lab_number=at.number,
            rate=self._settings.rate,
            orders=self._orders,
            report_dir=self._book.directory,
            stop=self._stop,
            say=lambda line: self._say(f"  {line}"),
        )

    def _lab_for(self, number: int) -> _LabOf:
        if self._stop.is_set():
            raise Interrupted
        if self._lab is not None and self._lab.number == number:
            return self._lab
        self._leave_lab(keep=False)
        directory = (self._book.directory / f"lab-{number}").absolute()
        shutil.rmtree(directory, ignore_errors=True)
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
        skipped = {f"{cell.fault} at {cell.target}: {cell.reason}" for cell in cells if cell.reason}
        self.skipped = sorted({*self.skipped, *skipped})
        return self._lab

    def _leave_lab(self, *, keep: bool) -> None:
        """End the lab; its files stay when they are evidence."""
        if self._lab is None:
            return
        self._lab.lab.down()
        if not keep:
            shutil.rmtree(self._lab.lab.files.root, ignore_errors=True)
        self._lab = None


def _line(one: RunResult, runs: int) -> str:
    proved = sum(injected.outcome == "proved" for injected in one.injections)
    return (
        f"run {one.number} of {runs}: {one.result}, {one.accepted:,} orders, {proved} of"
        f" {len(one.injections)} faults proved, {one.seconds:.0f} s"
    )


def _options(settings: CampaignSettings, orders: int) -> str:
    told = (
        f"--seed {settings.seed} --faults {settings.faults} --orders {orders}"
        f" --rate {settings.rate:g} --fresh-every {settings.fresh_every}"
    )
    told += "" if settings.proxy else " --no-proxy"
    return told + "".join(f" --only {name}" for name in settings.only)


def _exit_code(found: Sequence[RunResult]) -> int:
    sums = totals(found)
    if sums.violated:
        return EXIT_VIOLATED
    return EXIT_UNKNOWN if sums.unknown or not sums.proved else 0


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
