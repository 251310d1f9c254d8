"""`symphony ablate`: show that each cure is needed, by taking it out."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app.cli import EXIT_DIFFERENCE, EXIT_INTERRUPTED, EXIT_USAGE
from chaos.ablation.cure import Cure
from chaos.ablation.cures import CURES
from chaos.ablation.experiments import EXPERIMENTS
from chaos.ablation.trial import REST_S, Trial, run_trial
from chaos.ablation.verdict import HEAD, Row, cells, document, markdown, outcome
from chaos.auditor.report.text import columns

DEFAULT_SEED = 1


def register(root: typer.Typer) -> None:
    """Add `symphony ablate`."""
    root.command("ablate")(ablate)


def ablate(
    only: Annotated[
        list[str] | None, typer.Option(help="Only this variant; repeatable. See --list.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same orders and faults.")] = DEFAULT_SEED,
    orders: Annotated[
        int, typer.Option(min=0, max=5_000, help="Orders per run; 0: as each experiment wants.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write table, audits and logs here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Only list the variants.")] = False,
) -> None:
    """Run each experiment with its cure and without it, each in a lab of its own; minutes.

    Exit codes: 0 every cure is needed, 1 it could not be tried, 2 unknown variant, 3 one is not
    shown needed, 130 interrupted.
    """
    chosen = [cure for cure in CURES if not only or cure.name in only]
    unknown = set(only or ()) - {cure.name for cure in CURES}
    if unknown:
        known = ", ".join(cure.name for cure in CURES)
        typer.echo(f"unknown variant {', '.join(sorted(unknown))}; known: {known}", err=True)
        raise typer.Exit(EXIT_USAGE)
    if listed:
        rows = [(one.name, one.cure, one.removed, one.experiment) for one in chosen]
        typer.echo(columns([("variant", "cure", "removed how", "experiment"), *rows]))
        return
    signal.signal(signal.SIGTERM, _interrupt)
    with labs() as directory:
        done, interrupted = run(chosen, seed=seed, orders=orders, directory=directory, say=_say)
    said = document(done, seed=seed, interrupted=interrupted)
    if out is not None:
        write(out, done, json.dumps(said, indent=1))
    typer.echo(json.dumps(said, indent=1) if as_json else columns([HEAD, *map(cells, done)]))
    for row in done:
        for problem in row.problems:
            _say(f"{row.cure.name}: {problem}")
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(0 if all(row.needed for row in done) else EXIT_DIFFERENCE)


def run(
    cures: Sequence[Cure],
    *,
    seed: int,
    orders: int,
    directory: Path,
    say: Callable[[str], None],
) -> tuple[list[Row], bool]:
    """Try `cures` one after the other; returns the rows, and whether Ctrl-C ended it early.

    Cures of one experiment share its run with all cures.
    """
    kept: dict[str, Trial] = {}
    rows: list[Row] = []

    def trial(name: str, cure: Cure | None = None) -> Trial:
        done = run_trial(
            EXPERIMENTS[name],
            lab_dir=directory / "lab",
            seed=seed,
            orders=orders,
            plugin=cure.plugin if cure else "",
            patience_s=cure.patience_s if cure else REST_S,
        )
        how = f"without {cure.name}" if cure else "with all cures"
        void = f": {done.void}" if done.void else ""
        say(f"{done.seconds:5.1f} s  {name}, {how}: {outcome(done)}{void}")
        return done

    try:
        for number, cure in enumerate(cures, start=1):
            say(f"{number}/{len(cures)} {cure.name}: {cure.removed}")
            if cure.experiment not in kept:
                kept[cure.experiment] = trial(cure.experiment)
            rows.append(Row(cure, kept[cure.experiment], trial(cure.experiment, cure)))
    except KeyboardInterrupt:
        say("interrupted")
        return rows, True
    return rows, False


@contextmanager
def labs() -> Iterator[Path]:
    """A directory for labs which every user may traverse: PostgreSQL gives up root's rights."""
    directory = Path(tempfile.mkdtemp(prefix="symphony-ablation-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write(out: Path, rows: Sequence[Row], said: str) -> None:
    """Write the result, and of each run the audit and the logs of its workers."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "ablation.json").write_text(said + "\n")
    (out / "ablation.md").write_text(markdown(rows) + "\n")
    for row in rows:
        for trial in (row.kept, row.removed):
            name = f"{trial.experiment}-{trial.plugin.rpartition('.')[2] or 'cured'}"
            directory = out / name
            directory.mkdir(exist_ok=True)
            (directory / "audit.json").write_text(json.dumps(trial.document, indent=1) + "\n")
            for file, text in trial.logs.items():
                (directory / file).write_text(text)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
