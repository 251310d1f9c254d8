"""The command `symphony notifications ls`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer

from app.cli import Json, print_json, print_table
from chaos.console.options import LabDir, Url, api_of, clock

notifications = typer.Typer(no_args_is_help=True, help="Who was told what.")


def register(root: typer.Typer) -> None:
    """Add `symphony notifications`."""
    notifications.callback()(_notifications)
    root.add_typer(notifications, name="notifications")


def _notifications() -> None:
    """Who was told what."""


@notifications.command("ls")
def ls(
    subject: Annotated[str, typer.Argument(help="Only of this order, SKU, rule or client.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 20,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """List the newest notifications, all or of one subject."""
    query = {"limit": limit} | ({"subject": subject} if subject else {})
    found = api_of(url, lab_dir).get(f"/api/notifications?{urlencode(query)}")["notifications"]
    if as_json:
        print_json(found)
        return
    print_table(
        [
            {
                "at": clock(one["createdAt"]),
                "kind": one["kind"],
                "status": one["status"],
                "text": one["text"],
            }
            for one in found
        ]
    )
    if not found:
        typer.echo("nobody was told anything yet")
