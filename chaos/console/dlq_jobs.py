"""The commands `symphony dlq jobs|cancel`, and how a job on dead letters is told and followed."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.cli import EXIT_FAILED, Json, print_json, print_table
from chaos.console.api import Api
from chaos.console.options import LabDir, Operator, Url, api_of, signed

FOLLOW_PAUSE_S = 0.5
ENDED = ("DONE", "CANCELLED", "FAILED")
PROGRESS_WIDTH = 60

Follow = Annotated[bool, typer.Option("--follow", help="Show the progress until the job ends.")]


def register(dlq: typer.Typer) -> None:
    """Add the commands to the group `symphony dlq`."""
    dlq.command("jobs")(ls)
    dlq.command("cancel")(cancel)


def ls(
    job_id: Annotated[str, typer.Argument(help="Only this job, whole.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    follow: Follow = False,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """List jobs on dead letters, or show or follow one."""
    api = api_of(url, lab_dir)
    if job_id:
        found = api.get(f"/api/dlq/jobs/{quote(job_id, safe='')}")
        tell(api, found, follow=follow, as_json=as_json)
        return
    found = api.get(f"/api/dlq/jobs?limit={limit}")
    if as_json:
        print_json(found)
        return
    print_table(
        [
            {
                "job": one["id"],
                "kind": one["kind"],
                "of": one["topic"] or one["fingerprint"] or "all",
                "status": one["status"],
                "done": f"{one['done']}/{one['total']}",
                "refused": one["refused"],
                "by": one["requestedBy"],
            }
            for one in found["jobs"]
        ]
    )
    if not found["jobs"]:
        typer.echo("no jobs yet")


def cancel(
    job_id: Annotated[str, typer.Argument(help="The id of a job.")],
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Stop a job after the letters under way; what it has not sent stays open."""
    path = f"/api/dlq/jobs/{quote(job_id, safe='')}/cancel"
    reply = api_of(url, lab_dir).post(path, {}, signed(operator))
    if as_json:
        print_json(reply)
    else:
        typer.echo(f"job {reply['id']} stops: {reply['done']} of {reply['total']} done")


def tell(api: Api, job: dict[str, Any], *, follow: bool, as_json: bool) -> None:
    """Print a job, after following it when that is wanted; exit 1 when not all was well."""
    if follow:
        job = _followed(api, job)
    if as_json:
        print_json(job)
    else:
        typer.echo(_job_line(job))
        for what, count in sorted(job["tally"].items(), key=lambda one: -one[1]):
            typer.echo(f"  {count:>6}  {what}")
        if not follow and job["status"] not in ENDED:
            typer.echo(f"follow it: symphony dlq jobs {job['id']} --follow")
    if follow and (job["status"] != "DONE" or job["refused"]):
        raise typer.Exit(EXIT_FAILED)


def _followed(api: Api, job: dict[str, Any]) -> dict[str, Any]:
    """Look at a job until it has ended; progress goes to standard error."""
    terminal = sys.stderr.isatty()
    told = ""
    while True:
        line = _job_line(job)
        if terminal:
            typer.echo(f"\r{line:<{PROGRESS_WIDTH}}", err=True, nl=False)
        elif line != told:
            typer.echo(line, err=True)
        told = line
        if job["status"] in ENDED:
            if terminal:
                typer.echo("", err=True)
            return job
        time.sleep(FOLLOW_PAUSE_S)
        job = api.get(f"/api/dlq/jobs/{job['id']}")


def _job_line(job: dict[str, Any]) -> str:
    refused = f", {job['refused']} refused" if job["refused"] else ""
    why = f": {job['error']}" if job["error"] else ""
    return (f"{job['kind']} {job['id']} is {job['status']}{why}:"
            f" {job['done']} of {job['total']} done{refused}")  # fmt: skip
