"""What a campaign will do is a function of its seed and of the matrix."""

from __future__ import annotations

from collections import Counter

import pytest

from chaos.campaign.plan import lane_of, plan_run
from chaos.nemesis.engine import Cell

CELLS = [
    *(Cell("kill", f"{role}-1", "", "") for role in ("payment", "web", "relay", "shipping")),
    Cell("restart", "postgres", "", ""),
    Cell("net_latency", "kafka-proxy", "", ""),
    Cell("gateway_error", "gateway", "", ""),
    Cell("disk_full", "postgres", "", "needs a loop device"),
]
ALL = {(cell.fault, cell.target) for cell in CELLS}


def test_the_same_seed_and_number_are_the_same_run() -> None:
    """Faults, targets, order, pauses and seeds repeat; another number or seed is another run."""
    assert plan_run(7, 3, CELLS, 5) == plan_run(7, 3, list(reversed(CELLS)), 5)
    assert plan_run(7, 3, CELLS, 5) != plan_run(7, 4, CELLS, 5)
    assert plan_run(7, 3, CELLS, 5) != plan_run(8, 3, CELLS, 5)


def test_every_cell_is_dealt_before_any_comes_again() -> None:
    """Two decks hold each cell twice, the impossible ones, too: they are skipped when they come."""
    actions = [one for number in range(16) for one in plan_run(1, number, CELLS, 1).actions]
    assert Counter((one.fault, one.target) for one in actions) == dict.fromkeys(ALL, 2)
    first = {(one.fault, one.target) for one in actions[: len(ALL)]}
    assert first == ALL


def test_what_the_machine_cannot_do_at_the_moment_does_not_change_the_plan() -> None:
    """Free memory comes and goes; the same seed is the same faults everywhere."""
    elsewhere = [cell._replace(reason="" if cell.reason else "no room") for cell in CELLS]
    assert plan_run(7, 3, elsewhere, 5) == plan_run(7, 3, CELLS, 5)


def test_lanes_never_strike_the_same_target_at_once() -> None:
    """A target belongs to one lane; within a lane faults follow each other after a pause."""
    plan = plan_run(3, 0, CELLS, 30)
    owners = {one.action.target: name for name, lane in plan.lanes.items() for one in lane}
    for name, lane in plan.lanes.items():
        assert {owners[one.action.target] for one in lane} == {name}
        assert all(0.5 <= one.pause_s <= 3.0 for one in lane)
    assert len(plan.actions) == 30
    targets = ("web-1", "payment-2", "postgres", "gateway")
    assert [lane_of(one) for one in targets] == ["workers", "more workers", "servers", "others"]


def test_a_matrix_without_possibilities_is_refused() -> None:
    """A campaign that can break nothing proves nothing."""
    with pytest.raises(ValueError, match="no fault is possible"):
        plan_run(1, 0, [CELLS[-1]], 3)
