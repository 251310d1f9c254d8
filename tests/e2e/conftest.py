"""One lab for the demos and the runbook: its retry tiers are quick, it records traces, and where
Prometheus is installed its alerts are watched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import load_settings
from chaos.demo.dead_letters import ENVIRONMENT
from chaos.demo.script import Stage
from chaos.lab.cli import TRACED, make_plan
from chaos.lab.client import Lab
from chaos.observe.programs import observable
from chaos.workload.target import target_of

#: A canary worker, if a test starts one, runs a bad version, and few orders show it.
BAD_CANARY = {"SYMPHONY_PAYMENT_VARIANT": "declining", "SYMPHONY_CANARY_SAMPLES_MIN": "5"}
#: On a busy machine a step may wait long, and an order must not time out because of it.
PATIENT = {"SYMPHONY_STEP_DEADLINE_S": "30"}


@pytest.fixture(scope="session")
def story_stage(servers_dir: Path) -> Iterator[Stage]:
    """A running lab, ended after the last test that used it."""
    settings = load_settings(lab_dir=servers_dir / "stories", lab_observe=observable())
    environment = {**ENVIRONMENT, **PATIENT, **TRACED, **BAD_CANARY}
    lab = Lab.up(make_plan(settings, environment=environment), detach=False)
    try:
        yield Stage(lab, target_of(lab))
    finally:
        lab.down()
