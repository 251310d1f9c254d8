"""The command `symphony replay`: have a role read the last minutes of its topics again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import EXIT_FAILED, Json, print_json
from chaos.console.api import Api
from chaos.console.options import Operator, signed
from chaos.workload.target import running_lab

WATCH_PAUSE_S = 0.3


def register(root: typer.Typer) -> None:
    """Add the command to `root`."""
    root.command("replay")(replay)


def replay(
    role: Annotated[str, typer.Argument(help="A role or its consumer group, such as payment.")],
    duration: Annotated[str, typer.Argument(help="How far back: 90s, 5m, 1h30m or PT5M.")],
    follow: Annotated[bool, typer.Option("--follow", help="Wait until it is done.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0, help="With --follow: give up after, seconds.")
    ] = 180,
    reason: Annotated[str, typer.Option(help="Kept in the audit log.")] = "",
    operator: Operator = "",
    url: Annotated[str, typer.Option(help="The API; default: the running lab's.")] = "",
    as_json: Json = False,
    lab_dir: Annotated[
        Path | None,
        typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir."),
    ] = None,
) -> None:
    """Have every worker of ROLE stop in good order and read the last DURATION of its topics again.

    Exit codes: 0 it is queued (with --follow: done), 1 it was refused, failed or not in time.
    """
    api = Api(url or running_lab(lab_dir).url)
    body = {"consumerGroupId": role, "duration": duration, "reason": reason}
    found = api.post("/api/replay", body, signed(operator))
    if follow:
        found = _followed(api, found, timeout, quiet=as_json)
    if as_json:
        print_json(found)
    else:
        typer.echo(_said(found))
    if follow and found["status"] != "DONE":
        raise typer.Exit(EXIT_FAILED)


def _followed(api: Api, found: dict[str, Any], timeout_s: float, *, quiet: bool) -> dict[str, Any]:
    """The replay once it has ended, or as it is at the deadline."""
    deadline = time.monotonic() + timeout_s
    if not quiet:
        typer.echo(f"{found['role']} stops, to read again from {found['since']}", err=True)
    while found["status"] == "QUEUED" and time.monotonic() < deadline:
        time.sleep(WATCH_PAUSE_S)
        found = api.get(f"/api/replay/{found['id']}")
    return found


def _said(found: dict[str, Any]) -> str:
    if found["status"] == "DONE":
        return f"{found['role']} reads {found['records']} records again, from {found['since']} on"
    if found["status"] == "FAILED":
        return f"{found['role']} does not read again: {found['error']}"
    return f"replay {found['id']} of {found['role']} is queued: GET /api/replay/{found['id']}"
