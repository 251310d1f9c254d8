"""The commands `symphony canary show|set|compare|off`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from app.cli import EXIT_DIFFERENCE, Json, print_json, print_table
from chaos.console.api import Api
from chaos.console.options import Operator, signed
from chaos.workload.target import running_lab

Url = Annotated[str, typer.Option(help="The API; default: the running lab's.")]
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]
Reason = Annotated[str, typer.Option(help="Kept with the change.")]

PATH = "/api/canary/config"

canary = typer.Typer(no_args_is_help=True, help="The canary of the payment role.")


def register(root: typer.Typer) -> None:
    """Add `symphony canary`."""
    root.add_typer(canary, name="canary")


@canary.command("show")
def show(url: Url = "", as_json: Json = False, lab_dir: LabDir = None) -> None:
    """Print the canary's share, who set it, and which orchestrators have it in force."""
    _print(_api(url, lab_dir).get(PATH), as_json)


@canary.command("set")
def set_share(
    percent: Annotated[float, typer.Argument(min=0, max=100, help="Share of the orders, 0-100.")],
    auto: Annotated[
        bool | None,
        typer.Option(
            "--auto/--no-auto", help="Roll back and promote by figures; default: setting."
        ),
    ] = None,
    reason: Reason = "",
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Send PERCENT of the orders' charges to the canary. Exit code 3: not all have it in force."""
    body: dict[str, Any] = {"percent": percent, "reason": reason}
    if auto is not None:
        body["auto"] = auto
    _changed(_api(url, lab_dir).put(PATH, body, signed(operator)), as_json)


@canary.command("off")
def off(
    reason: Reason = "",
    operator: Operator = "",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Send every charge to the stable arm. Exit code 3: not all have it in force yet."""
    body = {"percent": 0, "reason": reason}
    _changed(_api(url, lab_dir).put(PATH, body, signed(operator)), as_json)


@canary.command("compare")
def compare(
    window: Annotated[str, typer.Option(help="How far back: 90s, 5m, PT5M.")] = "5m",
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Print both arms side by side, and what that says of the canary."""
    query = urlencode({"window": window})
    found = _api(url, lab_dir).get(f"/api/canary/comparison?{query}")
    if as_json:
        print_json(found)
        return
    print_table([_row(name, found[name]) for name in ("stable", "canary")])
    typer.echo(f"\n{found['verdict']}: {'; '.join(found['reasons'])}")


def _changed(found: dict[str, Any], as_json: bool) -> None:
    _print(found, as_json)
    if not found["inForce"]:
        raise typer.Exit(EXIT_DIFFERENCE)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    by = f", set by {found['by']} at {found['since']}" if found["by"] else ""
    typer.echo(f"{found['percent']:g} % of the orders go to the canary{by}")
    if found["reason"]:
        typer.echo(f"because: {found['reason']}")
    judged = "promoted" if found["promoted"] else "by its figures" if found["auto"] else "by hand"
    typer.echo(f"rolled back and promoted: {judged}")
    typer.echo(f"canary workers: {', '.join(found['canaryWorkers']) or 'none'}")
    if found["inForce"]:
        typer.echo(f"in force at: {', '.join(found['acked'])}")
    else:
        waited = ", ".join(found["pending"]) or "an orchestrator: none was heard of"
        typer.echo(f"not in force yet, waiting for {waited}")


def _row(name: str, arm: dict[str, Any]) -> dict[str, Any]:
    return {
        "arm": name,
        "charges": arm["attempts"],
        "ok": arm["ok"],
        "declined": arm["declined"],
        "failed": arm["errors"],
        "retrying": arm["retrying"],
        "parked": arm["parked"],
        "pending": arm["pending"],
        "p50 ms": _ms(arm["p50Ms"]),
        "p95 ms": _ms(arm["p95Ms"]),
    }


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _api(url: str, lab_dir: Path | None) -> Api:
    return Api(url or running_lab(lab_dir).url)
