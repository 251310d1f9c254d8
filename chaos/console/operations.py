"""The commands `symphony saga parked|retry|skip|compensate|resume`: an operator at the console."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from app.cli import EXIT_FAILED, Failure, Json, print_json, print_table
from chaos.console.api import Api
from chaos.console.options import (
    LabDir,
    Operator,
    OrderId,
    Url,
    api_of,
    clock,
    history_line,
    signed,
)

LOOK_PAUSE_S = 0.2
ACTED = "operator_"

Version = Annotated[
    int | None, typer.Option(min=1, help="The version you looked at; default: the present one.")
]
Reason = Annotated[str, typer.Option(help="Kept in history and audit log.")]
Wait = Annotated[
    float, typer.Option(min=0, max=600, help="Wait so long for the outcome, seconds; 0: do not.")
]


def register(saga: typer.Typer) -> None:
    """Add the commands to `symphony saga`."""
    for command in (parked, retry, resume, compensate, skip):
        saga.command()(command)


def parked(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 50,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """List the sagas that wait for a person, and what can be done about each."""
    page = api_of(url, lab_dir).get(f"/api/sagas?parked=true&limit={limit}")
    if as_json:
        print_json(page["sagas"])
        return
    print_table(
        [
            {
                "order": one["orderId"],
                "version": one["version"],
                "since": clock(one["since"] or one["updatedAt"]),
                "outstanding": one["outstanding"] or "-",
                "why": one["why"] or "-",
                "you can": ", ".join(one["actions"]),
            }
            for one in page["sagas"]
        ]
    )
    if not page["sagas"]:
        typer.echo("no saga waits for a person")
    elif page["next"] is not None:
        typer.echo(f"and more: symphony saga parked --limit {min(200, 2 * limit)}")


def retry(
    order_id: OrderId,
    version: Version = None,
    reason: Reason = "",
    operator: Operator = "",
    wait: Wait = 0,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Send the outstanding command again and await it like a new one."""
    _act("retry", order_id, version, reason, operator, wait, as_json, api_of(url, lab_dir))


def resume(
    order_id: OrderId,
    version: Version = None,
    reason: Reason = "",
    operator: Operator = "",
    wait: Wait = 0,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Await a dead-lettered command again, because its dead letter is being redriven."""
    _act("resume", order_id, version, reason, operator, wait, as_json, api_of(url, lab_dir))


def compensate(
    order_id: OrderId,
    version: Version = None,
    reason: Reason = "",
    operator: Operator = "",
    wait: Wait = 0,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Undo what was done or may have been; refused once the order is shipped."""
    _act("compensate", order_id, version, reason, operator, wait, as_json, api_of(url, lab_dir))


def skip(
    order_id: OrderId,
    reason: Annotated[str, typer.Option(help="Why it is given up; the audit names it.")],
    version: Version = None,
    operator: Operator = "",
    wait: Wait = 0,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Give up a compensation, or the stock commit, that can never succeed: an audited waiver."""
    _act("skip", order_id, version, reason, operator, wait, as_json, api_of(url, lab_dir))


def _act(
    action: str,
    order_id: str,
    version: int | None,
    reason: str,
    operator: str,
    wait_s: float,
    as_json: bool,
    api: Api,
) -> None:
    """Ask for an action; with `wait_s` exit 1 when it was refused or not decided in time."""
    if version is None:
        version = int(api.get(f"/api/sagas/{order_id}")["version"])
    body = {"action": action, "expectedVersion": version, "reason": reason}
    reply = api.post(f"/api/sagas/{order_id}/actions", body, signed(operator))
    if not wait_s:
        if as_json:
            print_json(reply)
        else:
            typer.echo(f"{action} requested at version {version} (the saga is {reply['state']})")
            typer.echo(f"see what comes of it: symphony saga watch {order_id}")
        return
    entry = _outcome(api, order_id, version, wait_s)
    if as_json:
        print_json(entry)
    else:
        typer.echo(history_line(entry))
    if entry["event"] == "operator_refused":
        raise typer.Exit(EXIT_FAILED)


def _outcome(api: Api, order_id: str, version: int, wait_s: float) -> dict[str, Any]:
    """The first line that an operator's action left after `version`; Failure when none comes."""
    deadline = time.monotonic() + wait_s
    while True:
        for entry in api.get(f"/api/sagas/{order_id}")["history"]:
            if entry["sagaVersion"] > version and entry["event"].startswith(ACTED):
                found: dict[str, Any] = entry
                return found
        if time.monotonic() > deadline:
            raise Failure(
                f"not decided within {wait_s:g} s: symphony saga show {order_id} tells later"
            )
        time.sleep(LOOK_PAUSE_S)
