"""The commands `symphony dlq floods|release`: consumers stopped by too many dead letters."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.cli import Json, print_json, print_table
from chaos.console.options import LabDir, Operator, Url, api_of, signed


def register(dlq: typer.Typer) -> None:
    """Add the commands to the group `symphony dlq`."""
    dlq.command("floods")(ls)
    dlq.command("release")(release)


def ls(url: Url = "", as_json: Json = False, lab_dir: LabDir = None) -> None:
    """List consumers that a flood of dead letters stopped."""
    found = api_of(url, lab_dir).get("/api/dlq/floods")["floods"]
    if as_json:
        print_json(found)
        return
    print_table([_row(one) for one in found])
    stopped = [one["consumer"] for one in found if one["stopped"]]
    if stopped:
        typer.echo(f"\nwhen the cause is mended: symphony dlq release {stopped[0]}")
    elif not found:
        typer.echo("no consumer was ever stopped by a flood of dead letters")


def release(
    consumer: Annotated[str, typer.Argument(help="A stopped consumer, such as payment.")],
    reason: Annotated[str, typer.Option(help="Kept in the audit log.")] = "",
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Let a stopped consumer go on: the rest of its batch passes, the count begins anew."""
    reply = api_of(url, lab_dir).post(
        f"/api/dlq/floods/{quote(consumer, safe='')}/release",
        {"reason": reason},
        signed(operator),
    )
    if as_json:
        print_json(reply)
    else:
        typer.echo(f"{consumer} goes on; it stood since {reply['stoppedAt']} ({reply['detail']})")


def _row(flood: dict[str, Any]) -> dict[str, str]:
    return {
        "consumer": flood["consumer"],
        "state": "stopped" if flood["stopped"] else f"released by {flood['releasedBy']}",
        "since": flood["stoppedAt"],
        "why": flood["detail"],
    }
