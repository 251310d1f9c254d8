"""The lesson on real servers: both scenarios drift in a dual write and do not with the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import load_settings
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.plan import DEFAULT_WORKERS
from chaos.lessons.dual_write.command import ENVIRONMENT, ROLES
from chaos.lessons.dual_write.findings import Mode, Run, Scenario
from chaos.lessons.dual_write.scenario import ORDERS, Teacher

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def lab(servers_dir: Path) -> Iterator[Lab]:
    """A broker, a database, role web and the relay, for all tests of this module."""
    settings = load_settings(lab_dir=servers_dir / "lesson")
    roles = {role: ROLES.get(role, "0") for role in DEFAULT_WORKERS}
    lab = Lab.up(make_plan(settings, workers=roles, environment=ENVIRONMENT), detach=False)
    try:
        yield lab
    finally:
        lab.down()


def play(lab: Lab, scenario: Scenario, mode: Mode) -> Run:
    """One run of the lesson."""
    told: list[str] = []
    run = Teacher(lab, scenario, mode, told.append).play()
    assert [what for _, what in run.timeline] == told
    assert {one.status for one in (*run.answers("before"), *run.answers("after"))} == {202}
    return run


def test_a_dual_write_loses_the_events_of_a_broker_outage(lab: Lab) -> None:
    """Accepted, stored, and never published: exactly the orders of the outage."""
    run = play(lab, Scenario.LOST, Mode.DUAL_WRITE)
    during = [one.order_id for one in run.answers("during") if one.status == 202]
    assert len(during) == ORDERS
    assert run.books.lost == sorted(during)
    assert run.books.phantom == []
    assert run.as_taught


def test_the_outbox_loses_nothing(lab: Lab) -> None:
    """The same outage: every event is in the topic afterwards."""
    run = play(lab, Scenario.LOST, Mode.OUTBOX)
    assert {one.status for one in run.answers("during")} == {202}
    assert len(run.books.stored) == 3 * ORDERS
    assert [one.result for one in run.checks] == ["PASS"] * len(run.checks)
    assert run.as_taught


def test_a_dual_write_publishes_orders_that_do_not_exist(lab: Lab) -> None:
    """Rolled back and killed transactions, each with its event in the topic."""
    run = play(lab, Scenario.PHANTOM, Mode.DUAL_WRITE)
    assert {one.status for one in run.answers("during")} == {0, 500}
    assert len(run.books.phantom) == ORDERS + 1
    assert run.books.lost == []
    assert run.as_taught


def test_the_outbox_invents_nothing(lab: Lab) -> None:
    """The same rollbacks and the same crash: nothing of them is anywhere."""
    run = play(lab, Scenario.PHANTOM, Mode.OUTBOX)
    assert {one.status for one in run.answers("during")} == {0, 500}
    assert len(run.books.stored) == 2 * ORDERS
    assert [one.result for one in run.checks] == ["PASS"] * len(run.checks)
    assert run.as_taught
