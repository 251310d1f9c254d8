"""`symphony load`: orders at a constant rate, every request in a ledger."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import aiohttp
import msgspec
import typer

from chaos.lab.process import LabError
from chaos.workload.generator import RETRY_PAUSES_S, Load, read_catalogue
from chaos.workload.ledger import LedgerFile
from chaos.workload.mix import (
    DEFAULT_AGAIN,
    DEFAULT_MIX,
    Again,
    Order,
    Outcome,
    UnusableMixError,
    parse_mix,
    plan,
)
from chaos.workload.summary import Summary, summarize, text
from chaos.workload.target import Target, running_lab

EXIT_UNUSABLE = 2
LabDir = Annotated[
    Path | None, typer.Option("--lab-dir", help="Directory of the lab; default setting lab_dir.")
]


def register(root: typer.Typer) -> None:
    """Add `symphony load`."""
    root.command("load")(load)


def load(
    orders: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many orders.")] = 200,
    rate: Annotated[float, typer.Option(min=0.1, max=5_000, help="Orders per second.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Same seed, same orders.")] = 1,
    mix: Annotated[
        str, typer.Option(help=f"Shares by comma, NAME=SHARE; names: {', '.join(Outcome)}.")
    ] = "",
    *,
    ledger: Annotated[Path | None, typer.Option(help="Append the ledger to this file.")] = None,
    url: Annotated[str, typer.Option(help="The API; default: the running lab's.")] = "",
    lab_dir: LabDir = None,
    in_flight: Annotated[int, typer.Option(min=1, max=20_000, help="Most at once.")] = 2_000,
    retries: Annotated[
        int,
        typer.Option(
            min=0,
            max=len(RETRY_PAUSES_S),
            help="How often one with an unknown outcome is repeated.",
        ),
    ] = len(RETRY_PAUSES_S),
    repeat_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of orders that are repeated once accepted.")
    ] = DEFAULT_AGAIN.repeated,
    conflict_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share whose key is tried with another body, too.")
    ] = DEFAULT_AGAIN.contested,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Send ORDERS orders at RATE per second whatever the answers, and record every request.

    Exit codes: 0 every request left (whatever its answer), 2 it could not begin.
    """
    run = token_hex(5)
    try:
        shares = parse_mix(mix) if mix else DEFAULT_MIX
        if not url or ledger is None:
            target = running_lab(lab_dir)
            url, ledger = url or target.url, ledger or ledger_path(target, run)
        catalogue = asyncio.run(read_catalogue(url))
        again = Again(repeat_share, conflict_share)
        planned = plan(orders, rate, seed, shares, catalogue, again)
    except (UnusableMixError, LabError) as error:
        raise _unusable(getattr(error, "detail", "") or str(error)) from None
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        raise _unusable(f"the API at {url} does not answer ({error})") from None
    sending = send(
        url, ledger, planned, run=run, in_flight_max=in_flight, retries=retries, quiet=as_json
    )
    summary = asyncio.run(sending)
    typer.echo(msgspec.json.encode(summary).decode() if as_json else text(summary))


def ledger_path(target: Target, run: str) -> Path:
    """Return where the ledger of `run` belongs: an audit of the lab reads it there."""
    return target.ledger_dir / f"load-{time.time_ns():d}-{run}.jsonl"


async def send(
    url: str,
    path: Path,
    orders: list[Order],
    *,
    run: str,
    in_flight_max: int,
    retries: int,
    quiet: bool,
) -> Summary:
    """Send a plan and return its summary; progress about once a second unless `quiet`."""

    def progress(load: Load) -> None:
        typer.echo(f"  {load.sent}/{len(orders)} sent, {load.in_flight} in flight", err=True)

    with LedgerFile(path) as file:
        load = Load(
            url,
            file,
            run=run,
            in_flight_max=in_flight_max,
            retry_pauses_s=RETRY_PAUSES_S[:retries],
        )
        await load.run(orders, (lambda _: None) if quiet else progress)
    return summarize(load.lines, str(path))


def _unusable(message: str) -> typer.Exit:
    typer.echo(f"symphony load: {message}", err=True)
    return typer.Exit(EXIT_UNUSABLE)
