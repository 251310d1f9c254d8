"""What the commands of the console share: options, and how a line of history looks."""

from __future__ import annotations

import getpass
import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from app.cli import Failure
from app.settings import load_settings
from chaos.console.api import Api
from chaos.workload.target import running_lab

Url = Annotated[str, typer.Option(help="The API; default: the running lab's.")]
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
OrderId = Annotated[str, typer.Argument(help="The id of an order.")]
OPERATOR_HELP: Final = "Who acts, for the audit log; default: setting operator, or your login name."
Operator = Annotated[str, typer.Option("--operator", help=OPERATOR_HELP)]

_NAME: Final = re.compile(r"[ -~]{1,100}")


def api_of(url: str, lab_dir: Path | None) -> Api:
    """Return the API at `url`, or that of the running lab."""
    return Api(url or running_lab(lab_dir).url)


def acting(operator: str) -> str:
    """Return who acts: `operator`, else the setting, else the login name; raises Failure."""
    given = (operator or load_settings().operator).strip()
    if not given:
        return _login_name()
    if _NAME.fullmatch(given) is None:
        raise Failure("--operator takes 1 to 100 visible ASCII characters")
    return given


def signed(operator: str) -> dict[str, str]:
    """Return the header that says who acts; raises Failure."""
    return {"X-Operator": acting(operator)}


def _login_name() -> str:
    """The login name, `operator` where there is none that a header can carry."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return "operator"
    return name if _NAME.fullmatch(name) else "operator"


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
