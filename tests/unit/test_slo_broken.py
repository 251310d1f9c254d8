"""A broken OpenSLO file in a running platform: a clear error, unknown values, and nothing lost."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.slo import Panes
from app import cli
from app.census.service import CensusService
from app.delivery.decoding import letter_id
from app.factory import create_app
from app.settings import load_settings
from app.slo import objectives
from app.slo.service import SnapshotService
from web.edge import problem_of

pytestmark = pytest.mark.unit


@pytest.fixture
def broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The declared objectives, one of which asks for the impossible."""
    for path in objectives.FILES.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    path = tmp_path / "fraud.yaml"
    path.write_text(path.read_text().replace("target: 0.95", "target: 95"))
    monkeypatch.setattr(objectives, "FILES", tmp_path)
    objectives.declared.cache_clear()
    yield
    objectives.declared.cache_clear()


def test_a_worker_with_good_files_counts_tells_and_takes_the_census() -> None:
    """Both consumers read; a dead letter is known by what it speaks of."""
    app = create_app(load_settings(role="slo", table_store="memory"))
    known_by = {runner.spec.name: runner.spec.known_by for runner in app.runners}
    assert known_by == {"slo": None, "slo-letters": letter_id}
    assert app.taps.paused == frozenset()
    assert [type(one) for one in app._extra_services] == [SnapshotService, CensusService]


@pytest.mark.usefixtures("broken_file")
async def test_a_worker_with_a_broken_file_takes_the_census_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It says what is wrong, shows no objective, and leaves outcomes unread: none is lost, for
    events count by the time at which they happened."""
    app = create_app(load_settings(role="slo", table_store="memory"))
    assert [type(one) for one in app._extra_services] == [CensusService]
    assert app.taps.paused == {"order.status_changed"}
    handlers = {runner.spec.name: runner.spec.handler for runner in app.runners}
    tx: Any = None
    assert await handlers["slo"].tick(tx, 0, app.clock.now()) == [], "no progress is claimed"
    assert isinstance(handlers["slo-letters"], Panes)
    [record] = [one for one in caplog.records if one.message == "slo.objectives_broken"]
    assert "fraud.yaml: " in str(record.__dict__)


@pytest.mark.usefixtures("broken_file")
def test_the_api_says_which_file_and_why() -> None:
    """503: nothing is known, and that is no defect of the view."""
    with pytest.raises(objectives.BrokenObjective) as caught:
        objectives.declared()
    told = problem_of(caught.value)
    assert (told.status, told.code) == (503, "broken_objective")
    assert told.detail.startswith("No objective can be judged: fraud.yaml: ")
    assert "target" in told.detail


@pytest.mark.usefixtures("broken_file")
def test_the_command_says_which_file_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 1."""
    monkeypatch.setattr(sys, "argv", ["symphony", "slo", "ls"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("symphony: fraud.yaml: ")
    assert told.err.count("\n") == 1
