"""The simulation keeps its own promises: it finds what is planted, repeats itself, and shrinks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from chaos.simulation.campaign import search, shrink
from chaos.simulation.command import command_of, register
from chaos.simulation.plan import FAULTS, Plan, plan_of
from chaos.simulation.plants import PLANTS
from chaos.simulation.run import simulate

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
SEEDS = 250
SEEDS_TO_FIND = 1000
#: Where to begin to look for what one seed in thousands shows.
RARE = {"no-precedence": 1500}

cli = typer.Typer()
register(cli)


@cli.callback()
def _cli() -> None:
    """Makes `simulate` a word of the command line, as it is one of symphony's."""


def test_no_seed_breaks_a_promise() -> None:
    """A few hundred stories of the product as it is: all kept, every fault and most ends seen."""
    done = search(0, SEEDS)
    assert done.failure is None, done.failure and (
        command_of(done.failure.plan),
        done.failure.violations,
    )
    assert done.seeds == SEEDS
    assert set(done.faults) == set(FAULTS)
    assert set(done.endings) >= {
        "COMPLETED",
        "CANCELLED/customer",
        "CANCELLED/out_of_stock",
        "CANCELLED/payment_declined",
        "CANCELLED/shipping_refused",
        "CANCELLED/timeout",
    }


@pytest.mark.parametrize("plant", list(PLANTS))
def test_a_planted_defect_is_found(plant: str) -> None:
    """Within so many seeds some promise is broken."""
    done = search(RARE.get(plant, 0), SEEDS_TO_FIND, plant)
    assert done.failure is not None, f"{plant} went unnoticed in {SEEDS_TO_FIND} seeds"
    assert done.failure.violations


def test_there_are_defects_of_every_part() -> None:
    """At least ten are planted, in the core, in the database and in the roles."""
    parts = Counter(one.install.__module__.rpartition(".")[2] for one in PLANTS.values())
    assert len(PLANTS) >= 10
    assert set(parts) == {"core", "database", "roles"}


def test_a_plant_is_taken_out_again() -> None:
    """After a run with a defect the product is as it was."""
    assert search(0, SEEDS_TO_FIND, "no-inbox").failure is not None
    assert simulate(plan_of(0)).violations == ()


def test_a_run_is_a_function_of_its_plan() -> None:
    """The same plan gives the same trace; other plans give others."""
    first, again = (simulate(plan_of(5)) for _ in range(2))
    assert first == again
    assert len({simulate(plan_of(seed)).trace_hash for seed in range(5)}) == 5


def test_the_trace_is_the_same_in_every_process() -> None:
    """Neither the hash seed nor what ran before changes it."""
    hashes = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "simulate", "--seed", "5", "--json"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": hash_seed},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        hashes.add(json.loads(done.stdout)["trace_hash"])
    simulate(plan_of(4))
    assert hashes == {simulate(plan_of(5)).trace_hash}


def size(plan: Plan) -> int:
    """How much happens in a run."""
    return plan.orders + len(plan.faults)


def test_a_failing_seed_shrinks_to_a_command_that_repeats_it() -> None:
    """Less of everything still fails, and the printed command gives the same trace."""
    failed = search(0, SEEDS_TO_FIND, "no-inbox").failure
    assert failed is not None
    smallest = shrink(failed)
    assert smallest.violations
    assert smallest.plan.orders <= failed.plan.orders
    assert set(smallest.plan.faults) <= set(failed.plan.faults)
    assert size(smallest.plan) < size(failed.plan)
    words = command_of(smallest.plan).split()
    done = CliRunner().invoke(cli, [*words[1:], "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["trace_hash"] == smallest.trace_hash
    assert told["violations"] == list(smallest.violations)


def test_without_faults_every_order_ends_as_it_must() -> None:
    """Nothing but the orders' own nature decides; nothing is cancelled by anybody."""
    for seed in range(10):
        result = simulate(Plan(seed, 4, (), 4.0))
        assert result.violations == ()
        assert len(result.endings) == 4
        assert not {"CANCELLED/customer", "CANCELLED/timeout", "PARKED"} & set(result.endings)


def test_several_processes_find_what_one_finds() -> None:
    """The same sagas end the same way; of a defect, the same lowest seed is told."""
    one, two = search(0, 120), search(0, 120, jobs=2)
    assert (two.seeds, two.sagas, two.endings, two.faults) == (
        one.seeds, one.sagas, one.endings, one.faults
    )  # fmt: skip
    alone, beside = search(0, 1000, "late-charge-kept"), search(0, 1000, "late-charge-kept", jobs=2)
    assert alone.failure is not None
    assert beside.failure is not None
    assert beside.failure.plan == alone.failure.plan
    assert beside.failure.trace_hash == alone.failure.trace_hash
    assert (beside.seeds, beside.sagas) == (alone.seeds, alone.sagas)


def test_the_command_searches_and_tells() -> None:
    """A search says how much was run; a defect ends it with exit code 1 and a smaller run."""
    done = CliRunner().invoke(cli, ["simulate", "--seeds", "5", "--first-seed", "3"])
    assert done.exit_code == 0
    assert "5 seeds from 3" in done.stdout
    assert "every promise was kept" in done.stdout
    found = CliRunner().invoke(cli, ["simulate", "--plant", "refund-lost", "--json"])
    assert found.exit_code == 1
    told = json.loads(found.stdout)
    assert told["smallest"]["violations"]
    assert "--plant refund-lost" in told["smallest"]["command"]


def test_a_story_can_be_read() -> None:
    """`--story` prints what happened, in the order of virtual time."""
    done = CliRunner().invoke(cli, ["simulate", "--seed", "1", "--faults", "none", "--story"])
    assert done.exit_code == 0
    lines = [line for line in done.stdout.splitlines() if " append order.created " in line]
    assert lines


@pytest.mark.parametrize(
    "words",
    [
        ["--plant", "nonsense"],
        ["--orders", "2"],
        ["--seed", "1", "--faults", "nonsense"],
        ["--story"],
    ],
)
def test_misuse_is_refused(words: list[str]) -> None:
    """Unknown names, and options of one seed without a seed."""
    assert CliRunner().invoke(cli, ["simulate", *words]).exit_code == 2


def test_all_defects_are_listed() -> None:
    """`--plant list` names each with what is wrong."""
    done = CliRunner().invoke(cli, ["simulate", "--plant", "list"])
    assert done.exit_code == 0
    for plant in PLANTS.values():
        assert f"{plant.name} " in done.stdout
        assert plant.meaning
