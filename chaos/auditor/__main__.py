"""`python -m chaos.auditor`: one audit in a process of its own.

Exit codes: 0 everything holds, 1 something is violated, 2 something could not be judged or there
was nothing to examine (also: wrong usage, or the auditor itself failed), 130 interrupted. The table
or the JSON document goes to standard output, progress to standard error.
"""

from __future__ import annotations

import json
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from chaos.auditor.audit import Options, audit
from chaos.auditor.report.document import document
from chaos.auditor.report.junit import junit
from chaos.auditor.report.page import page
from chaos.auditor.report.text import sentence, text
from chaos.auditor.sources import Sources
from chaos.auditor.verdict import EXIT_CODES

EXIT_INTERRUPTED = 130
Out = Annotated[Path | None, typer.Option(dir_okay=False)]


def main(
    *,
    dsn: Annotated[str, typer.Option(help="PostgreSQL, read in one read-only snapshot.")],
    bootstrap: Annotated[str, typer.Option(help="Kafka, host:port.")],
    load_ledger: Annotated[
        list[Path] | None, typer.Option(help="Ledger of a load generator; repeatable.")
    ] = None,
    gateway_ledger: Annotated[
        Path | None, typer.Option(help="Ledger of the payment provider.")
    ] = None,
    nemesis_ledger: Annotated[
        Path | None, typer.Option(help="Ledger of injected faults; absent: there were none.")
    ] = None,
    losses: Annotated[
        Path | None,
        typer.Option(help="Directory of what chaos rules lost on purpose; absent: nothing."),
    ] = None,
    notifications: Annotated[
        Path | None, typer.Option(help="The notification sink's file; absent: not judged.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Prefix of consumer groups.")] = "symphony",
    deadline_s: Annotated[
        float, typer.Option("--deadline", min=0, help="Longest wait for rest, seconds.")
    ] = 120.0,
    barriers: Annotated[
        bool, typer.Option(help="Prove rest by a barrier through every partition.")
    ] = True,
    memory_mb: Annotated[
        int, typer.Option(min=200, max=1_000_000, help="Memory of the store, MB; the rest spills.")
    ] = 1024,
    work_dir: Annotated[
        Path | None, typer.Option(help="Where the store may spill; default: temporary files.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    html: Out = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", dir_okay=False, help="Write JUnit XML here.")
    ] = None,
) -> None:
    """Audit the books of one platform and say whether anything was lost, doubled or leaked."""
    sources = Sources(
        dsn,
        bootstrap,
        namespace,
        tuple(load_ledger or ()),
        gateway_ledger,
        nemesis_ledger,
        losses,
        notifications,
    )
    options = Options(deadline_s, barriers, memory_mb, work_dir)
    verdict = audit(sources, options, lambda line: typer.echo(f"  {line}", err=True))
    told = document(verdict, sources=sources, options=options, at=datetime.now(UTC))
    if html is not None:
        html.write_text(page(told))
    if junit_file is not None:
        junit_file.write_text(junit(told))
    typer.echo(json.dumps(told) if as_json else f"{text(told)}\n\n{sentence(told)}")
    raise typer.Exit(verdict.exit_code)


def run() -> None:
    """Parse, audit, and turn what may go wrong into one line and an exit code."""
    try:
        typer.run(main)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        # 1 means violated: an auditor that fails has found nothing
        if not isinstance(error, OSError):
            traceback.print_exc()
        typer.echo(f"audit: {type(error).__name__}: {' '.join(str(error).split())}", err=True)
        sys.exit(EXIT_CODES["unknown"])


if __name__ == "__main__":
    run()
