"""Workers of a whole platform die at named points; everything accepted ends, once and paid once.

What the delivery core passes with every agent is crashed in by the conformance suite
(`tests/chaos/crash_points.py` says which point is proven where).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from app.settings import load_settings
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from tests.chaos.crash_lab import CrashLab
from tests.chaos.crash_points import ROUNDS, Death

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def running(servers_dir: Path) -> Iterator[CrashLab]:
    """One lab with every role, one worker each; shipping has lost one already, which arms its
    journal: each round can be run alone.
    """
    lab_dir = servers_dir / "crash-points"
    lab_dir.mkdir(mode=0o755)
    settings = load_settings(lab_dir=lab_dir, lab_ready_timeout_s=240)
    quick = {"SYMPHONY_RETRY_TIERS_S": "1,5"}
    lab = Lab.up(make_plan(settings, environment=quick), detach=False)
    try:
        lab.wait_restarted("shipping-1", lab.kill("shipping-1"), 60)
        yield CrashLab(lab)
    finally:
        lab.down()


@pytest.mark.parametrize(
    "deaths", ROUNDS, ids=lambda deaths: "+".join(death.point for death in deaths)
)
def test_a_crash_at_these_points_is_outlived(running: CrashLab, deaths: Sequence[Death]) -> None:
    """Each worker dies exactly there, another takes its place."""
    running.die(deaths)


def test_everything_accepted_ended_once(running: CrashLab) -> None:
    """No order is lost, doubled, stuck or charged twice after all these deaths."""
    running.settle()
