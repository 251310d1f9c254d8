"""The commands `symphony review ls|show|approve|reject`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from app.cli import Json, print_json, print_table
from chaos.console.api import Api
from chaos.console.options import OPERATOR_HELP, signed
from chaos.workload.target import running_lab

Url = Annotated[str, typer.Option(help="The API; default: the running lab's.")]
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
OrderId = Annotated[str, typer.Argument(help="The id of an order.")]
Operator = Annotated[str, typer.Option("--operator", "--as", help=OPERATOR_HELP)]

review = typer.Typer(no_args_is_help=True, help="Orders that are held for a person.")


def register(root: typer.Typer) -> None:
    """Add `symphony review`."""
    root.add_typer(review, name="review")


@review.command("ls")
def ls(
    limit: Annotated[int, typer.Option(min=1, help="How many, the longest waiting first.")] = 50,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """List the orders that wait for a decision, with their scores."""
    found = _waiting(_api(url, lab_dir), limit)
    if as_json:
        print_json(found)
        return
    print_table(
        [
            {
                "order": one["orderId"],
                "customer": one["customerId"],
                "total": f"{one['total']} {one['currency']}",
                "score": one["score"],
                "waits": f"{one['ageS']:.0f} s",
                "because": "; ".join(reason["detail"] for reason in one["reasons"]),
            }
            for one in found
        ]
    )
    if not found:
        typer.echo("no order waits for a review")


@review.command("show")
def show(order_id: OrderId, url: Url = "", as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Print the score of an order rule by rule, and who decided."""
    found = _api(url, lab_dir).get(f"/api/orders/{order_id}/review")
    if as_json:
        print_json(found)
        return
    decision = found["decision"] or "waits for a decision"
    by = f" by {found['decidedBy']}" if found["decidedBy"] else ""
    why = f": {found['decisionReason']}" if found["decisionReason"] else ""
    typer.echo(f"order {found['orderId']} scored {found['score']}; {decision}{by}{why}\n")
    print_table(found["reasons"])


@review.command("approve")
def approve(
    order_id: OrderId,
    reason: Annotated[str, typer.Option(help="Kept with the decision.")] = "",
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Let an order go on: its saga begins."""
    _decide(_api(url, lab_dir), order_id, "approve", reason, operator, as_json)


@review.command("reject")
def reject(
    order_id: OrderId,
    reason: Annotated[str, typer.Option(help="Kept with the decision.")],
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Reject an order: it ends REJECTED, uncharged."""
    _decide(_api(url, lab_dir), order_id, "reject", reason, operator, as_json)


def _decide(api: Api, order_id: str, act: str, reason: str, operator: str, as_json: bool) -> None:
    reply = api.post(f"/api/orders/{order_id}/{act}", {"reason": reason}, signed(operator))
    if as_json:
        print_json(reply)
    else:
        typer.echo(f"{reply['decision']} by {reply['decidedBy']}: {order_id}")


def _waiting(api: Api, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {}
    while len(found) < limit:
        query["limit"] = min(200, limit - len(found))
        page = api.get(f"/api/orders/pending-review?{urlencode(query)}")
        found += page["orders"]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    return found


def _api(url: str, lab_dir: Path | None) -> Api:
    return Api(url or running_lab(lab_dir).url)
