"""`symphony nemesis` and `symphony failpoints`: what can be broken, and breaking it."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import EXIT_DIFFERENCE, EXIT_FAILED, Json, print_json, print_table
from app.settings import load_settings
from chaos.faults.command import failpoints
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis.engine import Action, Cell, Injection, Nemesis

LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
RECOVERY_S = 30.0
LONGEST_S = 3600.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}

nemesis = typer.Typer(no_args_is_help=True, help="Break the running lab from outside, with proof.")


def register(root: typer.Typer) -> None:
    """Add the commands to the root command."""
    root.command()(failpoints)
    root.add_typer(nemesis, name="nemesis")


@nemesis.command("ls")
def listing(as_json: Json = False, lab_dir: LabDir = None) -> None:
    """List every fault with every target here, and why some cannot be done."""
    cells = _nemesis(lab_dir).matrix()
    if as_json:
        print_json([cell._asdict() for cell in cells])
        return
    print_table(
        [
            {
                "fault": cell.fault,
                "target": cell.target,
                "here": cell.reason or "yes",
                "meaning": cell.meaning,
            }
            for cell in cells
        ]
    )


@nemesis.command("run")
def run(
    fault: Annotated[str, typer.Argument(help="A fault as `symphony nemesis ls` names it.")],
    target: Annotated[
        str | None, typer.Option("--target", help="Default: one that is possible, by the seed.")
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", help="How long, like 10s; default the fault's own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same choices.")] = 0,
    param: Annotated[
        list[str] | None, typer.Option("--param", help="NAME=VALUE of the fault; repeatable.")
    ] = None,
    recovery: Annotated[
        str, typer.Option(help="How long to look for the first new effect; 0s: not at all.")
    ] = f"{RECOVERY_S:g}s",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Do it, prove it, end it, and say how long work stood still.

    Ctrl-C ends the fault first. Exit codes: 0 proved, and all was well afterwards; 1 void, refused,
    or something was not as it must be afterwards; 2 wrong usage; 3 skipped: not possible here; 130
    Ctrl-C or SIGTERM.
    """
    engine = _nemesis(lab_dir, seconds(recovery, "--recovery"))
    for_s = None if lasting is None else seconds(lasting, "--for")
    cells = engine.matrix()
    chosen = target or _choose(fault, cells, seed)
    action = Action(fault, chosen, for_s, seed, parameters(param or []))
    if not as_json:
        typer.echo(f"{fault} at {chosen}, seed {seed}", err=True)
    with _terminated_like_interrupted():
        done = engine.run(action)
    _tell(done, as_json)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Ctrl-C ends the fault first, and so does SIGTERM; also in the background, where a shell makes
    commands ignore Ctrl-C."""
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, signal.default_int_handler) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def seconds(text: str, option: str) -> float:
    """A time like 500ms, 10s or 2m, at most an hour. Raises LabError naming the option."""
    found = _DURATION.fullmatch(text)
    value = float(found[1]) * _SECONDS[found[2]] if found else -1.0
    if not 0 <= value <= LONGEST_S:
        raise LabError(f"{option} {text}: a time like 500ms, 10s or 2m is expected, at most 60m")
    return value


def parameters(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE texts; what looks like a number is one. Raises LabError."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise LabError(f"--param {text}: NAME=VALUE is expected")
        found[name] = _number(value)
    return found


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _choose(fault: str, cells: list[Cell], seed: int) -> str:
    """A target that is possible here, or one that is not when none is; by the seed."""
    mine = [cell for cell in cells if cell.fault == fault]
    if not mine:
        known = ", ".join(dict.fromkeys(cell.fault for cell in cells))
        raise LabError(f"unknown fault {fault!r}, or nothing for it here; possible: {known}")
    possible = [cell.target for cell in mine if not cell.reason]
    return random.Random(seed).choice(possible or [cell.target for cell in mine])


def _tell(done: Injection, as_json: bool) -> None:
    if as_json:
        print_json({**done._asdict(), "proved": done.proved})
    else:
        typer.echo(f"{done.outcome}: {done.detail}")
        if done.recovered_s is not None:
            typer.echo(f"recovered after {done.recovered_s:.2f} s")
        elif done.proved:
            typer.echo("no new effect was seen (do orders flow?), or none is to be expected")
    if not done.proved or done.after_failed:
        raise typer.Exit(EXIT_DIFFERENCE if done.outcome == "skipped" else EXIT_FAILED)


def _nemesis(lab_dir: Path | None, recovery_s: float = RECOVERY_S) -> Nemesis:
    return Nemesis(Lab(load_settings(lab_dir=lab_dir).lab_dir), recovery_limit_s=recovery_s)
