"""The commands `symphony order create|show|ls|cancel` and `symphony saga show|watch`.

Those of an operator stand in `chaos.console.operations`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from secrets import token_hex
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import typer

from app.cli import EXIT_FAILED, Failure, Json, print_json, print_table
from chaos.console import (
    canary,
    dlq,
    notifications,
    operations,
    payments,
    replay,
    review,
    slo,
    trace,
)
from chaos.console.api import Api, ApiError
from chaos.console.options import LabDir, OrderId, Url, api_of, clock, history_line, history_row
from chaos.console.recorded import place_recorded
from chaos.control import command as rules
from chaos.workload.target import running_lab

WATCH_PAUSE_S = 0.2
NOT_FOUND = 404

order = typer.Typer(no_args_is_help=True, help="Orders of the running lab.")
saga = typer.Typer(no_args_is_help=True, help="Sagas of the running lab.")


def register(root: typer.Typer) -> None:
    """Add the commands of the console: order, saga and those of its modules."""
    operations.register(saga)
    root.add_typer(order, name="order")
    root.add_typer(saga, name="saga")
    for module in (payments, canary, review, dlq, replay, notifications, slo, trace, rules):
        module.register(root)


@order.command("create")
def create(
    total: Annotated[str, typer.Option(help="Amount of an order without items, 12.50.")] = "",
    item: Annotated[
        list[str] | None, typer.Option(help="SKU or SKU=QUANTITY; may be repeated.")
    ] = None,
    customer: Annotated[str, typer.Option(help="Who orders.")] = "console",
    currency: Annotated[str, typer.Option(help="Of an amount, ISO 4217.")] = "EUR",
    address: Annotated[str, typer.Option(help="Where to; empty: collected.")] = "",
    key: Annotated[str, typer.Option(help="Idempotency-Key; default: a new one.")] = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Place an order: an amount (--total) or products (--item)."""
    body: dict[str, Any] = {"customerId": customer}
    if total:
        body |= {"total": total, "currency": currency}
    if item:
        body["items"] = [_item(text) for text in item]
    if address:
        body["shippingAddress"] = address
    key = key or f"console-{token_hex(8)}"
    if url:
        reply = Api(url).post("/api/orders", body, {"Idempotency-Key": key})
    else:
        reply = place_recorded(running_lab(lab_dir), body, key)
    if as_json:
        print_json(reply)
    else:
        typer.echo(f"order {reply['orderId']}: {reply['total']} {reply['currency']}, accepted")
        typer.echo(f"follow it: symphony saga watch {reply['orderId']}")


@order.command("show")
def show(order_id: OrderId, url: Url = "", as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Print an order with its lines and its history."""
    found = api_of(url, lab_dir).get(f"/api/orders/{order_id}")
    if as_json:
        print_json(found)
        return
    typer.echo(f"order {found['orderId']} of {found['customerId']}: {_state(found, 'status')}")
    typer.echo(f"total {found['total']} {found['currency']}, "
               f"to {found['shippingAddress'] or 'the counter'}\n")  # fmt: skip
    print_table(
        [
            {"product": one["productId"], "quantity": one["quantity"], "price": one["unitPrice"]}
            for one in found["items"]
        ]
    )
    typer.echo("")
    print_table([history_row(one) for one in found["history"]])


@order.command("ls")
def ls(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 20,
    status: Annotated[str | None, typer.Option(help="Only of this status, PARKED.")] = None,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """List the newest orders."""
    found = _newest(api_of(url, lab_dir), limit, status)
    if as_json:
        print_json(found)
        return
    print_table(
        [
            {
                "order": one["orderId"],
                "customer": one["customerId"],
                "total": f"{one['total']} {one['currency']}",
                "status": _state(one, "status"),
                "created": clock(one["createdAt"]),
            }
            for one in found
        ]
    )
    if not found and status is None:
        typer.echo("there are no orders yet: symphony order create --total 12.50")
    elif not found:
        typer.echo(f"no order is {status}")


@order.command("cancel")
def cancel(
    order_id: OrderId,
    reason: Annotated[str, typer.Option(help="Kept in the order's history.")] = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Ask for the cancellation of an order; the saga decides whether it is in time."""
    reply = api_of(url, lab_dir).post(f"/api/orders/{order_id}/cancel", {"reason": reason})
    if as_json:
        print_json(reply)
    else:
        typer.echo(f"cancellation requested (the order is {reply['status']})")
        typer.echo(f"see who wins: symphony saga watch {order_id}")


@saga.command("show")
def saga_show(
    order_id: OrderId, url: Url = "", as_json: Json = False, lab_dir: LabDir = None
) -> None:
    """Print where a saga stands, step by step."""
    found = api_of(url, lab_dir).get(f"/api/sagas/{order_id}")
    if as_json:
        print_json(found)
    else:
        _print_saga(found)


@saga.command("watch")
def saga_watch(
    order_id: OrderId,
    timeout: Annotated[float, typer.Option(min=0, help="Give up after this long, seconds.")] = 120,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Follow a saga until it is final; with --json one document a line, the saga last.

    Exit codes: 0 it is final, 1 it was not in time.
    """
    api = api_of(url, lab_dir)
    last: dict[str, Any] = {}
    told = 0
    for last in _looks(api, order_id, timeout):
        for entry in last["history"][told:]:
            typer.echo(_line(entry) if as_json else history_line(entry))
        told = len(last["history"])
    if as_json and last:
        typer.echo(_line(last))
    elif last:
        typer.echo(f"{_state(last, 'state')} after {len(last['history'])} entries")
    if not last.get("final"):
        state = last.get("state", "not begun")
        typer.echo(f"symphony: the saga is {state} after {timeout:g} s", err=True)
        raise typer.Exit(EXIT_FAILED)


def _newest(api: Api, limit: int, status: str | None) -> list[dict[str, Any]]:
    """At most `limit` orders, newest first; pages may be short, so follows them to the oldest."""
    query: dict[str, Any] = {"limit": limit}
    if status is not None:
        query["status"] = status
    found: list[dict[str, Any]] = []
    while True:
        page = api.get(f"/api/orders?{urlencode(query)}")
        found += page["orders"]
        if len(found) >= limit or page["next"] is None:
            return found
        query |= {"limit": limit - len(found), "before": page["next"]}


def _looks(api: Api, order_id: str, timeout_s: float) -> Iterator[dict[str, Any]]:
    """The saga again and again until it is final; an order may not have one yet."""
    deadline = time.monotonic() + timeout_s
    api.get(f"/api/orders/{order_id}")
    while True:
        try:
            found: dict[str, Any] = api.get(f"/api/sagas/{order_id}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
        else:
            yield found
            if found["final"]:
                return
        if time.monotonic() > deadline:
            return
        time.sleep(WATCH_PAUSE_S)


def _print_saga(found: dict[str, Any]) -> None:
    cancelled = f", cancellation {found['cancel']}" if found["cancel"] else ""
    typer.echo(f"saga {found['orderId']}: {_state(found, 'state')}{cancelled}")
    typer.echo(f"definition {found['definition']}, version {found['version']}, "
               f"{found['redrives']} re-drives\n")  # fmt: skip
    print_table(
        [
            {
                "step": one["name"],
                "kind": one["kind"],
                "status": one["status"],
                "reference": one["reference"],
            }
            for one in found["steps"]
        ]
    )
    typer.echo("")
    print_table([history_row(one) for one in found["history"]])


def _item(text: str) -> dict[str, Any]:
    sku, _, quantity = text.partition("=")
    if not sku or (quantity and not quantity.isdigit()):
        raise Failure(f"--item {text}: SKU or SKU=QUANTITY is expected")
    return {"productId": sku, "quantity": int(quantity or 1)}


def _state(found: dict[str, Any], name: str) -> str:
    return f"{found[name]} ({found['reason']})" if found["reason"] else str(found[name])


def _line(document: Any) -> str:
    return msgspec.json.encode(document).decode()
