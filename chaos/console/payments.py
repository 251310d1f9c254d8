"""The commands `symphony payments mode|status`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import Json, print_json
from chaos.console.api import Api
from chaos.console.options import Operator, signed
from chaos.workload.target import running_lab

Url = Annotated[str, typer.Option(help="The API; default: the running lab's.")]
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]

MODE_HELP = "SUCCESS, ERROR, DECLINE or TIMEOUT."


class Mode(StrEnum):
    """How the provider can answer."""

    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    DECLINE = "DECLINE"
    TIMEOUT = "TIMEOUT"


payments = typer.Typer(no_args_is_help=True, help="Payments, and the simulated provider.")


def register(root: typer.Typer) -> None:
    """Add `symphony payments`."""
    root.add_typer(payments, name="payments")


@payments.command("mode")
def mode(
    wanted: Annotated[
        Mode | None, typer.Argument(metavar="MODE", case_sensitive=False, help=MODE_HELP)
    ] = None,
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Print how the simulated payment provider answers, or change it to MODE.

    SUCCESS as usual; ERROR with 500; DECLINE refuses every card; TIMEOUT not at all.
    """
    api = Api(url or running_lab(lab_dir).url)
    if wanted is None:
        found = api.get("/api/payments/mode")
    else:
        found = api.put("/api/payments/mode", {"mode": wanted.value}, signed(operator))
    if as_json:
        print_json(found)
    else:
        typer.echo(f"the payment provider answers in mode {found['mode']}")


@payments.command("status")
def status(
    order_id: Annotated[str, typer.Argument(help="The id of an order.")],
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Print what became of an order's charge."""
    found = Api(url or running_lab(lab_dir).url).get(f"/api/payments/status/{order_id}")
    if as_json:
        print_json(found)
    else:
        typer.echo(_told(found))


def _told(found: dict[str, Any]) -> str:
    """One payment in a sentence."""
    amount = f"{found['amount']} {found['currency']}"
    if found["status"] == "NONE":
        return f"payment of order {found['orderId']}: {amount}, not begun"
    reason = f" ({found['reason']})" if found["reason"] else ""
    delivery = f", {found['delivery']}" if found["delivery"] not in (None, "DONE") else ""
    again = f", sent {found['redrives']} times again" if found["redrives"] else ""
    return (
        f"payment of order {found['orderId']}: {amount}, {found['status']}{reason}{delivery},"
        f" try {found['tries']} of arm {found['arm']}{again}"
    )
