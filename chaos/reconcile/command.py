"""`symphony reconcile`: do the books of client, database, topics and gateway agree?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from chaos.lab.process import LabError
from chaos.reconcile.evidence import Evidence
from chaos.reconcile.judge import judge
from chaos.reconcile.quiescence import wait_quiet
from chaos.reconcile.reading import Sources, read
from chaos.reconcile.report import document, sentence, text
from chaos.reconcile.topics import FAMILIES, KafkaReader
from chaos.reconcile.verdict import EXIT_CODES, Verdict
from chaos.workload.target import Target, running_lab


class Reconciled(NamedTuple):
    """A verdict, and why the system did not come to rest before it (empty when it did)."""

    evidence: Evidence
    verdict: Verdict
    unrest: str

    @property
    def exit_code(self) -> int:
        """0 holds, 1 violated, 2 unknown."""
        return EXIT_CODES[self.verdict.result]


def register(root: typer.Typer) -> None:
    """Add `symphony reconcile`."""
    root.command("reconcile")(reconcile_command)


def reconcile_command(
    ledger: Annotated[
        list[Path] | None, typer.Option(help="Load ledger; default: all of this lab.")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=0, max=3_600, help="Longest wait for rest, seconds.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    lab_dir: Annotated[
        Path | None,
        typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir."),
    ] = None,
) -> None:
    """Compare what the load generator, PostgreSQL, the topics and the gateway have recorded.

    Exit codes: 0 everything holds, 1 something is violated (with witnesses), 2 it could not be
    checked or there was nothing to examine.
    """
    try:
        target = running_lab(lab_dir)
    except LabError as error:
        typer.echo(f"symphony reconcile: {error.detail}", err=True)
        raise typer.Exit(EXIT_CODES["unknown"]) from None
    done = reconcile(
        target,
        ledger or target.ledgers(),
        deadline_s=deadline,
        progress=lambda line: typer.echo(f"  {line}", err=True),
    )
    if as_json:
        typer.echo(json.dumps(document(done.verdict, done.unrest), indent=1))
    else:
        typer.echo(text(done.verdict))
        typer.echo(sentence(done.verdict))
    raise typer.Exit(done.exit_code)


def reconcile(
    target: Target,
    ledgers: list[Path],
    *,
    deadline_s: float,
    progress: Callable[[str], None] = lambda _: None,
) -> Reconciled:
    """Wait for rest, then read everything and judge it. Raises nothing for an absent source."""
    reader = KafkaReader(target.bootstrap)
    unrest = wait_quiet(
        target.dsn, lambda: _records(reader), deadline_s=deadline_s, progress=progress
    )
    if unrest:
        progress(f"not at rest after {deadline_s:g} s ({unrest}): judged as it stands")
    sources = Sources(target.dsn, reader, target.gateway_ledger, ledgers)
    evidence = read(sources)
    return Reconciled(evidence, judge(evidence), unrest)


def _records(reader: Any) -> int:
    names = [name for name in reader.topics() if name.startswith(FAMILIES)]
    return sum(reader.ends(names).values())
