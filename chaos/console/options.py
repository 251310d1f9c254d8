"""What the commands about orders and sagas share: options, and how a line of history looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from chaos.console.api import Api
from chaos.workload.target import running_lab

Url = Annotated[str, typer.Option(help="The API; default: the running lab's.")]
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
OrderId = Annotated[str, typer.Argument(help="The id of an order.")]


def api_of(url: str, lab_dir: Path | None) -> Api:
    """Return the API at `url`, or that of the running lab."""
    return Api(url or running_lab(lab_dir).url)


def history_row(entry: dict[str, Any]) -> dict[str, str]:
    """Return one entry of a history as cells."""
    return {
        "at": clock(entry["at"]),
        "event": entry["event"],
        "state": entry["status"],
        "reason": entry["reason"],
    }


def history_line(entry: dict[str, Any]) -> str:
    """Return one line of a watched history, in columns that need not know the lines to come."""
    row = history_row(entry)
    return f"{row['at']}  {row['event']:<20}  {row['state']:<17}  {row['reason']}".rstrip()


def clock(at: str) -> str:
    """Return the time of day of an ISO 8601 instant, to the millisecond."""
    return at.partition("T")[2][:12].rstrip("Z")
