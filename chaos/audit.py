"""`symphony audit`: run the auditor in a process of its own on a running lab; read its verdict."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import typer

from chaos.auditor.report.text import sentence, text
from chaos.auditor.verdict import EXIT_CODES
from chaos.faults.on_messages import LOSSES
from chaos.lab.process import LabError
from chaos.workload.target import Target, running_lab

DEADLINE_S = 120.0


class Audited(NamedTuple):
    """A verdict: the auditor's whole document."""

    document: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0 holds, 1 violated, 2 unknown."""
        return int(self.document["exit_code"])

    @property
    def unrest(self) -> str:
        """Why the system did not come to rest, empty when it did."""
        return str(self.document["unrest"])

    @property
    def text(self) -> str:
        """The table of invariants with witnesses."""
        return text(self.document)

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        return sentence(self.document)

    @property
    def violated(self) -> list[str]:
        """Ids of the violated invariants."""
        return [one["id"] for one in self.document["invariants"] if one["violations"]]

    @property
    def idle(self) -> list[str]:
        """Ids of the invariants that had nothing to examine."""
        return [one["id"] for one in self.document["invariants"] if not one["examined"]]

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many accepted orders of each class ended how."""
        return {(row["class"], row["end"]): row["orders"] for row in self.document["outcomes"]}


class AuditFailed(Exception):
    """The auditor ended without a verdict; the text is what it said."""


def run_audit(
    target: Target,
    ledgers: Sequence[Path],
    *,
    deadline_s: float = DEADLINE_S,
    progress: Callable[[str], None] = lambda _: None,
) -> Audited:
    """Wait for rest and judge all books in another process. Raises AuditFailed without a verdict;
    a book that cannot be read is a verdict (unknown).
    """
    return _ask(_command(target, ledgers, deadline_s), progress)


def _ask(command: Sequence[str], progress: Callable[[str], None]) -> Audited:
    """Run the auditor. Raises AuditFailed when it did not end with a verdict that it wrote down: an
    exit code alone is none, because a process that fails may end with 1, too.
    """
    command = [*command, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        told: list[str] = []
        listener = threading.Thread(target=_tell, args=(it.stderr, told, progress), daemon=True)
        listener.start()
        out = it.stdout.read()
        listener.join()
    document = _document(out)
    if it.returncode not in EXIT_CODES.values() or document.get("exit_code") != it.returncode:
        last = " / ".join(filter(None, told[-3:]))
        raise AuditFailed(f"the auditor ended {_how(it.returncode)}, without a verdict: {last}")
    return Audited(document)


def _document(out: str) -> dict[str, Any]:
    """The auditor's document; empty when it wrote none, or only a part of one."""
    try:
        found = json.loads(out)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _how(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _tell(stream: IO[str], told: list[str], progress: Callable[[str], None]) -> None:
    for line in stream:
        told.append(line.strip())
        progress(line.strip())


def register(root: typer.Typer) -> None:
    """Add `symphony audit`."""
    root.command("audit")(audit)


def audit(
    ledger: Annotated[
        list[Path] | None, typer.Option(help="Load ledger; default: all of this lab.")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=0, max=3_600, help="Longest wait for rest, seconds.")
    ] = DEADLINE_S,
    memory_mb: Annotated[
        int, typer.Option(min=200, max=1_000_000, help="Memory of the auditor's store, MB.")
    ] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write a self-contained page here.")
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write JUnit XML here.")
    ] = None,
    lab_dir: Annotated[
        Path | None,
        typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir."),
    ] = None,
) -> None:
    """Prove from independent books whether anything was lost, doubled or leaked.

    Exit codes: 0 everything holds, 1 something is violated (with witnesses), 2 it could not be
    judged or there was nothing to examine.
    """
    try:
        target = running_lab(lab_dir)
    except LabError as error:
        typer.echo(f"symphony audit: {error.detail}", err=True)
        raise typer.Exit(EXIT_CODES["unknown"]) from None
    command = _command(target, ledger or target.ledgers(), deadline)
    command += ["--memory-mb", str(memory_mb)]
    command += ["--html", str(html)] if html else []
    command += ["--junit", str(junit)] if junit else []
    try:
        found = _ask(command, lambda line: typer.echo(f"  {line}", err=True))
    except AuditFailed as error:
        typer.echo(f"symphony audit: {error}", err=True)
        raise typer.Exit(EXIT_CODES["unknown"]) from None
    typer.echo(json.dumps(found.document) if as_json else f"{found.text}\n\n{found.sentence}")
    raise typer.Exit(found.exit_code)


def _command(target: Target, ledgers: Sequence[Path], deadline_s: float) -> list[str]:
    command = [sys.executable, "-m", "chaos.auditor"]
    command += ["--dsn", target.dsn, "--bootstrap", target.bootstrap]
    command += ["--gateway-ledger", str(target.gateway_ledger)]
    command += ["--nemesis-ledger", str(target.nemesis_ledger)]
    command += ["--losses", str(target.lab_dir / LOSSES)]
    if target.notifications.exists():
        command += ["--notifications", str(target.notifications)]
    for path in ledgers:
        command += ["--load-ledger", str(path)]
    return [*command, "--deadline", str(deadline_s)]
