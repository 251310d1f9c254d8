"""`symphony simulate`: the platform on virtual time, thousands of seeded stories a minute."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chaos.simulation.plan import FAULTS, ORDERS_MAX, Plan, plan_of

if TYPE_CHECKING:
    from chaos.simulation.campaign import Campaign
    from chaos.simulation.run import Result

EXIT_VIOLATED = 1


def register(root: typer.Typer) -> None:
    """Add `symphony simulate`."""
    root.command("simulate")(simulate_command)


def simulate_command(  # noqa: PLR0917 (typer gives every option by name)
    seeds: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many seeds.")] = 500,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Run this one seed only.")] = None,
    orders: Annotated[
        int | None, typer.Option(min=1, max=ORDERS_MAX, help="With --seed: so many orders.")
    ] = None,
    faults: Annotated[
        str | None, typer.Option(help="With --seed: these kinds by comma, or none.")
    ] = None,
    until: Annotated[
        float | None, typer.Option(min=1, max=600, help="With --seed: faults end, virtual seconds.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=3, help="With --seed: workers of each role.")
    ] = None,
    operator: Annotated[
        bool | None, typer.Option(help="With --seed: dead letters are redriven at the end.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes; default: one a core.")
    ] = None,
    plant: Annotated[str, typer.Option(help="Plant this defect; `list` shows all.")] = "",
    story: Annotated[bool, typer.Option(help="With --seed: print the trace.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run the real handlers and delivery core on virtual time under seeded faults.

    Every fault ends, the system comes to rest, and the books are compared. A seed that breaks a
    promise is shrunk and printed as the command that repeats it exactly.

    Exit codes: 0 every promise was kept, 1 one was broken, 2 misuse.
    """
    # imported here, because the other commands should not wait for Faust and SQLAlchemy
    from chaos.simulation.campaign import search, shrink
    from chaos.simulation.plants import PLANTS
    from chaos.simulation.run import simulate

    if plant == "list":
        width = max(map(len, PLANTS))
        for one in PLANTS.values():
            typer.echo(f"{one.name:{width}}  {one.meaning}")
        return
    if plant and plant not in PLANTS:
        raise typer.BadParameter(f"unknown defect {plant!r}; known: {', '.join(PLANTS)}")
    if seed is not None:
        plan = _plan(plan_of(seed, plant), orders, faults, until, workers, operator)
        result = simulate(plan)
        typer.echo(json.dumps(document(result), indent=1) if as_json else told(result, story=story))
        raise typer.Exit(EXIT_VIOLATED if result.violations else 0)
    if any(one is not None for one in (orders, faults, until, workers, operator)) or story:
        raise typer.BadParameter("this option needs --seed")
    done = search(
        first_seed,
        seeds,
        plant,
        jobs=jobs or os.cpu_count() or 1,
        progress=lambda n: None if n % 1000 else typer.echo(f"  {n} seeds", err=True),
    )
    smallest = shrink(done.failure) if done.failure is not None else None
    if as_json:
        typer.echo(json.dumps(campaign_document(done, smallest), indent=1))
    else:
        typer.echo(campaign_told(done, smallest))
    raise typer.Exit(EXIT_VIOLATED if smallest is not None else 0)


def _plan(
    plan: Plan,
    orders: int | None,
    faults: str | None,
    until: float | None,
    workers: int | None,
    operator: bool | None,
) -> Plan:
    """The seed's plan with what was given on the command line instead."""
    if faults is not None:
        kinds = tuple(kind for kind in faults.split(",") if kind and kind != "none")
        unknown = sorted(set(kinds) - set(FAULTS))
        if unknown:
            raise typer.BadParameter(f"unknown faults {unknown}; known: {', '.join(FAULTS)}")
        plan = plan._replace(faults=kinds)
    return plan._replace(
        orders=plan.orders if orders is None else orders,
        until_s=plan.until_s if until is None else until,
        workers=plan.workers if workers is None else workers,
        operator=plan.operator if operator is None else operator,
    )


def command_of(plan: Plan) -> str:
    """The command that repeats a run."""
    return f"symphony simulate {plan.options()}"


def document(result: Result) -> dict[str, Any]:
    """A run as plain data."""
    return {
        "command": command_of(result.plan),
        "plan": result.plan._asdict(),
        "violations": list(result.violations),
        "endings": list(result.endings),
        "trace_hash": result.trace_hash,
        "virtual_s": round(result.virtual_s, 3),
    }


def campaign_document(done: Campaign, smallest: Result | None) -> dict[str, Any]:
    """A campaign as plain data; `failure` and `smallest` are absent when every promise held."""
    found = {}
    if done.failure is not None and smallest is not None:
        found = {"failure": document(done.failure), "smallest": document(smallest)}
    return {
        "first_seed": done.first_seed,
        "seeds": done.seeds,
        "sagas": done.sagas,
        "endings": dict(done.endings.most_common()),
        "faults": dict(done.faults.most_common()),
        "virtual_s": round(done.virtual_s, 1),
        "wall_s": round(done.wall_s, 1),
        "cpu_s": round(done.cpu_s, 1),
        "seeds_per_minute": round(done.seeds_per_minute),
        **found,
    }


def told(result: Result, *, story: bool) -> str:
    """A run for people."""
    lines = [command_of(result.plan)]
    if story:
        lines += [f"{at:9.4f}  {' '.join(map(str, facts))}" for at, *facts in result.trace]
    lines += [f"ended: {', '.join(result.endings) or 'no order'}"]
    lines += [f"violated: {one}" for one in result.violations] or ["every promise was kept"]
    lines += [f"trace {result.trace_hash}, {result.virtual_s:.1f} virtual seconds"]
    return "\n".join(lines)


def campaign_told(done: Campaign, smallest: Result | None) -> str:
    """A campaign for people."""
    ran = f"{done.seeds} seeds from {done.first_seed}, {done.sagas} sagas"
    took = f"{done.virtual_s / 3600:.1f} virtual hours in {done.wall_s:.0f} s"
    rate = done.seeds / done.wall_s * 60
    pace = f"{rate:.0f} seeds per minute, {done.seeds_per_minute:.0f} of one core"
    lines = [
        f"{ran}, {took} ({pace})",
        ", ".join(f"{count} {ending}" for ending, count in done.endings.most_common()),
    ]
    if done.failure is None or smallest is None:
        return "\n".join([*lines, "every promise was kept"])
    lines += [f"seed {done.failure.plan.seed} violated: {one}" for one in done.failure.violations]
    lines += ["the smallest run that still fails:", told(smallest, story=False)]
    return "\n".join(lines)
