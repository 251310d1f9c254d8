"""The commands `symphony slo status|watch|ls`: service level objectives and how they stand."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import typer

from app.cli import EXIT_DIFFERENCE, Json, print_json, print_table
from app.slo.objectives import declared
from chaos.console.api import Api
from chaos.console.options import LabDir, Url, api_of, clock

PATH = "/api/metrics/slo"
SHOWN_WINDOWS = ("5m", "1h", "6h", "3d")
COLOURS: Mapping[str, str] = MappingProxyType(
    {"ok": "green", "ticket": "yellow", "page": "red", "exhausted": "red", "unknown": "magenta"}
)
NOT_KNOWN = "-"

Name = Annotated[str, typer.Argument(help="One objective; default all.")]

slo = typer.Typer(no_args_is_help=True, help="Service level objectives of the running lab.")


def register(root: typer.Typer) -> None:
    """Add `symphony slo`."""
    root.add_typer(slo, name="slo")


@slo.command("ls")
def ls(as_json: Json = False) -> None:
    """List the objectives as their OpenSLO files declare them; asks no server."""
    listed = list(declared().values())
    if as_json:
        print_json([one._asdict() for one in listed])
        return
    print_table(
        [
            {
                "objective": one.name,
                "target": f"{one.target:.3%}".replace("0%", "%"),
                "window": one.window,
                "means": one.title,
            }
            for one in listed
        ]
    )


@slo.command("status")
def status(
    name: Name = "",
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 3 unless every shown objective is ok.")
    ] = False,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Print how the objectives stand: burn rates, budget left, alerts, latencies.

    What is not known is shown as `-`. Exit codes: 0 printed, 1 the API does not answer or knows no
    such objective; with --check 3 when an objective is not ok, which *unknown* is not either.
    """
    api = api_of(url, lab_dir)
    found: dict[str, Any] = _one(api, name) if name else api.get(PATH)
    shown = [found] if name else found["objectives"]
    if as_json:
        print_json(found)
    else:
        if not name:
            _print_head(found)
        _print_objectives(shown)
        if name:
            _print_windows(found)
        else:
            _print_latency(found)
    if check and any(one["state"] != "ok" for one in shown):
        raise typer.Exit(EXIT_DIFFERENCE)


@slo.command("watch")
def watch(
    every: Annotated[float, typer.Option(min=0.2, help="Pause between looks, seconds.")] = 2.0,
    looks: Annotated[int, typer.Option(min=0, help="End after so many looks; 0: never.")] = 0,
    url: Url = "",
    as_json: Json = False,
    lab_dir: LabDir = None,
) -> None:
    """Follow the objectives, one line a look, until Ctrl-C; with --json one document a line."""
    api = api_of(url, lab_dir)
    for found in _looks(api, every, looks):
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
        else:
            typer.echo(_line(found))


def _looks(api: Api, every_s: float, looks: int) -> Iterator[dict[str, Any]]:
    number = 0
    while True:
        yield api.get(PATH)
        number += 1
        if number == looks:
            return
        time.sleep(every_s)


def _one(api: Api, name: str) -> dict[str, Any]:
    """One objective; raises ApiError, which names the known ones for an unknown one."""
    found: dict[str, Any] = api.get(f"/api/slo/{name}")
    return found


def _print_head(found: Mapping[str, Any]) -> None:
    age = found["dataAgeS"]
    scale = "" if found["timeScale"] == 1 else f", windows {found['timeScale']:g} times as short"
    if age is None:
        typer.echo(f"nothing is known: role slo has not said that it has read everything{scale}\n")
    elif found["stale"]:
        typer.echo(f"nothing is known: the data are {age:.0f} s old (role slo lags or is away)"
                   f"{scale}\n")  # fmt: skip
    else:
        typer.echo(f"as of {clock(found['at'])}, data {age:.1f} s old{scale}\n")


def _print_objectives(shown: list[dict[str, Any]]) -> None:
    print_table(
        [
            {
                "objective": one["name"],
                "target": f"{one['target']:g}",
                "errors": _share(one["errorRatio"]),
                **{f"burn {window}": _rate(one, window) for window in SHOWN_WINDOWS},
                "budget left": _share(one["budgetLeft"]),
                "lasts": _time(one["exhaustionS"]),
                "state": _coloured(one["state"]),
            }
            for one in shown
        ]
    )
    for one in shown:
        for alert in one["alerts"]:
            if alert["firing"]:
                typer.echo(
                    f"{one['name']}: {alert['severity']}, burning faster than {alert['factor']:g}"
                    f" times over {alert['longWindow']} and {alert['shortWindow']}"
                )


def _print_windows(one: Mapping[str, Any]) -> None:
    typer.echo(f"\n{one['title']}: {one['description']}\n")
    print_table(
        [
            {
                "window": each["window"],
                "seconds": f"{each['seconds']:g}",
                "good": _number(each["good"]),
                "bad": _number(each["bad"]),
                "errors": _share(each["errorRatio"]),
                "burn": _number(each["burnRate"]),
            }
            for each in one["windows"]
        ]
    )


def _print_latency(found: Mapping[str, Any]) -> None:
    typer.echo("")
    print_table(
        [
            {
                "window": one["window"],
                "completed": _number(one["orders"]),
                "p50 ms": _number(one["p50Ms"]),
                "p95 ms": _number(one["p95Ms"]),
                "p99 ms": _number(one["p99Ms"]),
                "outcomes/s": _number(one["outcomesPerS"]),
            }
            for one in found["latency"]
        ]
    )


def _line(found: Mapping[str, Any]) -> str:
    states = "  ".join(
        f"{one['name']} {_coloured(one['state'])} {_rate(one, '1h')}" for one in found["objectives"]
    )
    age = found["dataAgeS"]
    data = "no data" if age is None else f"stale {age:.0f} s" if found["stale"] else f"{age:.0f} s"
    return f"{clock(found['at'])}  {data:<9}  p95 {_number(found['p95Latency'])} ms  {states}"


def _rate(one: Mapping[str, Any], window: str) -> str:
    """The burn rate over a window."""
    return next(_number(each["burnRate"]) for each in one["windows"] if each["window"] == window)


def _number(value: float | None) -> str:
    if value is None:
        return NOT_KNOWN
    return (
        str(value) if isinstance(value, int) else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
    )


def _share(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:.2%}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return NOT_KNOWN
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def _coloured(state: str) -> str:
    """The state in its colour; whoever does not read from a terminal gets the word alone."""
    return state if "NO_COLOR" in os.environ else typer.style(state, fg=COLOURS[state])
