"""Prometheus and Alertmanager of a lab: real ones, with workers that only tell their health."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.lab.broker import Broker
from chaos.lab.client import Lab
from chaos.lab.plan import Plan
from chaos.observe.plan import Observe
from chaos.observe.reader import Alertmanager, Prometheus, Unreadable
from tests.lab.test_supervisor import gone, make_plan, pids
from tests.prometheus import program
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]
PATIENCE_S = 60.0
RULES = """
groups:
  - name: own
    rules:
      - alert: WorkerGone
        expr: up{role="payment"} == 0
        labels: {severity: page}
"""


@pytest.fixture(scope="module")
def plan(servers_dir: Path, broker: Broker) -> Plan:
    """A lab of one fake worker at the suite's broker, with Prometheus and one rule."""
    programs = {name: program(name) for name in ("prometheus", "prometheus-alertmanager")}
    directory = servers_dir / "observed"
    directory.mkdir()
    rules = directory / "own.yml"
    rules.write_text(RULES)
    return make_plan(
        directory,
        workers={"payment": 1},
        broker_kind="external",
        bootstrap=broker.bootstrap,
        observe=Observe(
            prometheus=programs["prometheus"],
            alertmanager=programs["prometheus-alertmanager"],
            rules=[str(rules)],
            scrape_interval_s=0.5,
        ),
    )


@pytest.fixture(scope="module")
def lab(plan: Plan) -> Iterator[Lab]:
    """The lab, up."""
    lab = Lab.up(plan)
    try:
        yield lab
    finally:
        lab.down()


class Seen:
    """What the lab's Prometheus and Alertmanager say now."""

    def __init__(self, lab: Lab) -> None:
        observe: dict[str, Any] = lab.status()["observe"]
        self.prometheus = Prometheus(observe["prometheus"]["url"])
        self.alertmanager = Alertmanager(observe["alertmanager"]["url"])

    def up(self) -> dict[str, float] | None:
        """`up` by worker; None while Prometheus does not answer."""
        try:
            found = self.prometheus.query("up")
        except Unreadable:
            return None
        assert all(one.labels["role"] == "payment" for one in found)
        return {one.labels["worker"]: one.samples[0][1] for one in found}

    def wait_up(self, expected: dict[str, float]) -> None:
        """Return when exactly these workers are seen so."""
        wait_until(lambda: self.up() == expected, timeout_s=PATIENCE_S, what=f"up is {expected}")

    def wait_alert(self, fires: bool) -> None:
        """Return when the alert has arrived at Alertmanager, or is gone from it."""
        wait_until(
            lambda: ("WorkerGone" in self.alertmanager.alerts()) is fires,
            timeout_s=PATIENCE_S,
            what=f"Alertmanager has the alert: {fires}",
        )


def test_the_lab_is_observed_and_not_harmed_by_it(lab: Lab) -> None:
    """Targets follow the workers, a dead worker raises its alert, and Prometheus may die."""
    seen = Seen(lab)
    seen.wait_up({"payment-1": 1.0})
    lab.scale("payment", 2)
    seen.wait_up({"payment-1": 1.0, "payment-2": 1.0})
    lab.stop("payment-2")
    seen.wait_up({"payment-1": 1.0, "payment-2": 0.0})
    seen.wait_alert(fires=True)
    lab.scale("payment", 1)
    seen.wait_up({"payment-1": 1.0})
    seen.wait_alert(fires=False)
    pid = lab.kill("prometheus")
    lab.wait_restarted("prometheus", pid, PATIENCE_S)
    seen.wait_up({"payment-1": 1.0})
    status = lab.status()
    assert (status["state"], status["problems"]) == ("ready", [])
    assert lab.process("payment-1")["restarts"] == 0
    assert seen.prometheus.query("min_over_time(up{worker='payment-2'}[1h])"), "it kept its past"


def test_nothing_is_left_of_an_observed_lab(lab: Lab, plan: Plan) -> None:
    """kill -9 of the supervisor ends both; so does `down` of the lab that is started after it."""
    before = pids(lab)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: gone(before), timeout_s=PATIENCE_S, what="no process is left")
    lab = Lab.up(plan)
    after = pids(lab)
    assert {row["name"] for row in lab.status()["processes"]} >= {"prometheus", "alertmanager"}
    lab.down()
    assert gone(after)
