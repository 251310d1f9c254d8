"""`symphony lesson dual-write`: provoke lost and phantom events, then run the same with the outbox.

Exit codes: 0 the run shows what the lesson says (drift in a dual write, none by outbox), 1 the lab
failed, 3 it shows something else, 130 interrupted.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import EXIT_DIFFERENCE
from app.settings import load_settings
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.plan import DEFAULT_WORKERS
from chaos.lessons.dual_write.findings import Mode, Run, Scenario, document
from chaos.lessons.dual_write.report import html, markdown
from chaos.lessons.dual_write.scenario import Teacher

#: The lesson is about the two writes of role web; nobody needs to read the events.
ROLES = {"web": "1", "relay": "1"}
#: A request may wait for the sends of those before it, 2 s each while the broker is away.
ENVIRONMENT = {
    "SYMPHONY_API_REQUEST_TIMEOUT_S": "15",
    "SYMPHONY_API_QUEUE_WAIT_MAX_MS": "15000",
}


def dual_write(
    scenario: Annotated[Scenario, typer.Option(help="Which of the two writes gets lost.")],
    mode: Annotated[
        Mode,
        typer.Option(
            help="Publish beside the transaction (a failure is swallowed, or answered with 500),"
            " or by the outbox."
        ),
    ] = Mode.DUAL_WRITE,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write report.json, .md and .html here.")
    ] = None,
) -> None:
    """See a database and a topic drift apart on real servers, or not, in a lab of its own.

    Exit codes: 0 the run shows what the lesson says, 1 the lab failed, 3 it shows something else,
    130 interrupted.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    directory = Path(tempfile.mkdtemp(prefix="symphony-lesson-"))
    directory.chmod(0o755)
    try:
        run = teach(scenario, mode, directory / "lab", lambda line: typer.echo(line, err=True))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report = document(run)
    if out is not None:
        write(out, report)
    typer.echo(json.dumps(report, indent=1) if as_json else markdown(report))
    raise typer.Exit(0 if run.as_taught else EXIT_DIFFERENCE)


def teach(scenario: Scenario, mode: Mode, lab_dir: Path, tell: Callable[[str], None]) -> Run:
    """Bring up a lab, play the scenario, take the lab down and remove it. Raises LabError."""
    settings = load_settings(lab_dir=lab_dir)
    roles = {role: ROLES.get(role, "0") for role in DEFAULT_WORKERS}
    plan = make_plan(settings, workers=roles, environment=ENVIRONMENT)
    tell("a real broker, a real PostgreSQL, role web and the relay are started")
    lab = Lab(lab_dir)
    try:
        lab = Lab.up(plan, detach=False)
        return Teacher(lab, scenario, mode, tell).play()
    finally:
        lab.down()
        lab.files.purge()


def write(out: Path, report: dict[str, Any]) -> None:
    """Write the report in its three forms into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (out / "report.md").write_text(markdown(report))
    (out / "report.html").write_text(html(report))


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
