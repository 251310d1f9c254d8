"""`symphony ledger run`: faults on real Kafka and PostgreSQL, then a count of what was lost."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from chaos.ledger.arena import run
from chaos.ledger.campaign import Plan, Result
from chaos.ledger.faults import ALL_FAULTS
from chaos.ledger.stock import MODES
from chaos.rules import BadRule, parse_rules

EXIT_FOUND = 1

ledger = typer.Typer(no_args_is_help=True, help="Prove that rebalances and crashes lose nothing.")


def register(root: typer.Typer) -> None:
    """Add `symphony ledger`."""
    root.add_typer(ledger, name="ledger")


@ledger.callback()
def _ledger() -> None:
    """Prove that rebalances and crashes lose nothing."""


@ledger.command("run")
def run_ledger(  # noqa: PLR0917 (typer gives every option by name)
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Faults that must prove.")] = 12,
    rate: Annotated[float, typer.Option(min=1, max=5_000, help="Events per second.")] = 200.0,
    seed: Annotated[int, typer.Option(help="Order of faults.")] = 1,
    faults: Annotated[str, typer.Option(help="Kinds, by comma.")] = ",".join(ALL_FAULTS),
    block: Annotated[int, typer.Option(min=1, max=1_000, help="Rounds between audits.")] = 6,
    stock: Annotated[
        str, typer.Option(help=f"Run stock Faust beside it: {', '.join(MODES)}.")
    ] = "",
    stock_rate: Annotated[float, typer.Option(min=1, help="Its events per second.")] = 120.0,
    failpoints: Annotated[
        str, typer.Option(help="Faults inside our workers, like delivery.after_commit=crash;p=0.01")
    ] = "",
    only_stock: Annotated[bool, typer.Option(help="Leave our core out.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Keep logs and ledgers here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run ROUNDS faults under load, count lost, stuck and duplicated events.

    Exit codes: 0 our core kept its promise, 1 it did not (or a round stayed void), 2 misuse.
    """
    kinds = tuple(kind for kind in faults.split(",") if kind)
    unknown = sorted(set(kinds) - set(ALL_FAULTS))
    if unknown or not kinds:
        raise typer.BadParameter(f"unknown faults {unknown}; known: {', '.join(ALL_FAULTS)}")
    if stock and stock not in MODES:
        raise typer.BadParameter(f"unknown mode {stock!r}; known: {', '.join(MODES)}")
    try:
        parse_rules(failpoints)
    except BadRule as error:
        raise typer.BadParameter(str(error)) from None
    if only_stock and not stock:
        raise typer.BadParameter("--only-stock needs --stock")
    rates = (*(() if only_stock else (rate,)), *((stock_rate,) if stock else ()))
    plan = Plan(rounds=rounds, faults=kinds, seed=seed, rates=rates, block=block)
    results = run(
        plan,
        lambda line: typer.echo(f"{time.strftime('%H:%M:%S')} {line}", err=as_json),
        stock_mode=stock or None,
        probe=not only_stock,
        failpoints=failpoints,
        keep=keep.absolute() if keep else None,
    )
    if as_json:
        typer.echo(json.dumps([document(result) for result in results], indent=1))
    else:
        for result in results:
            typer.echo(summary(result))
    judged = results[0]
    if judged.findings or judged.proven < rounds:
        raise typer.Exit(EXIT_FOUND)


def document(result: Result) -> dict[str, Any]:
    """A result as plain data: rounds, counts of the last audit, exits, findings."""
    last = result.verdicts[-1]
    return {
        "subject": result.subject,
        "rounds": [asdict(one) for one in result.rounds],
        "proven": result.proven,
        "void": result.void,
        "audits": len(result.verdicts),
        "lost": last.lost,
        "stuck": last.stuck,
        "duplicates": last.duplicates,
        "verdict": asdict(last),
        "exits": {str(code): count for code, count in sorted(result.exits.items())},
        "findings": result.findings,
    }


def summary(result: Result) -> str:
    """A result in one line for people."""
    last = result.verdicts[-1]
    recoveries = sorted(r.recovery_s for r in result.rounds if r.recovery_s is not None)
    middle = f"{recoveries[len(recoveries) // 2]:.1f}" if recoveries else "-"
    return (
        f"{result.subject}: {result.proven} rounds proven, {result.void} void,"
        f" {last.events} events, {last.lost} lost, {last.stuck} stuck,"
        f" {last.duplicates} duplicates, recovery median {middle} s;"
        f" {'; '.join(result.findings) or 'nothing found'}"
    )
