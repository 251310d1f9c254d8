"""What a campaign keeps, repeats and answers, with labs that are only directories."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from chaos.audit import AuditFailed
from chaos.campaign import command
from chaos.campaign.book import CampaignBook, Injected, RunResult
from chaos.campaign.plan import RunPlan
from chaos.lab.process import LabError
from chaos.nemesis.engine import Cell
from chaos.workload.traffic import TrafficFailed
from tests.campaign.test_book import SETTINGS, injected, result

CELLS = [
    Cell("kill", "web-1", "", ""),
    Cell("pause", "web-1", "", ""),
    Cell("disk_full", "payment-1", "", "needs a loop device"),
]
OPTIONS = ["--faults", "2", "--orders", "50", "--rate", "30", "--fresh-every", "5"]


class Labs:
    """Directories instead of labs. `ends` says how a run ends that does not hold."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outside: Path) -> None:
        self.started: list[Path] = []
        self.scaled: set[str] = set()
        self.ran: list[int] = []
        self.ends: dict[int, Callable[[], str]] = {}
        self._outside = outside
        monkeypatch.setattr(command, "load_settings", lambda **given: given["lab_dir"])
        monkeypatch.setattr(command, "make_plan", lambda directory: directory)
        monkeypatch.setattr(command, "Lab", SimpleNamespace(up=self.up))
        monkeypatch.setattr(command, "Nemesis", lambda _: SimpleNamespace(matrix=lambda: CELLS))
        monkeypatch.setattr(command, "run", self.run)

    def up(self, directory: Path, *, detach: bool) -> Any:
        """A lab whose database lies elsewhere, as it does for root."""
        assert not detach
        assert list(directory.iterdir()) == []
        data = self._outside / f"data-{len(self.started)}"
        data.mkdir(parents=True)
        (data / "table").write_text(f"lab {len(self.started)}")
        (directory / "postgres").mkdir()
        (directory / "postgres" / "data").symlink_to(data)
        self.started.append(directory)
        return SimpleNamespace(
            files=SimpleNamespace(root=directory),
            down=lambda: None,
            scale=lambda role, count: self.scaled.add(f"{role}={count}"),
        )

    def run(self, lab: Any, plan: RunPlan, *, lab_number: int, **_: Any) -> RunResult:
        """A run that leaves its number in its lab."""
        self.ran.append(plan.number)
        (lab.files.root / f"run-{plan.number}").touch()
        verdict = self.ends.get(plan.number, lambda: "holds")()
        skipped = [Injected(fault="memory", target="web-1", outcome="skipped", detail="no room")]
        return result(plan.number, [injected("kill", "web-1", 1.0), *skipped], verdict)


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Labs:
    """Labs that start nothing."""
    return Labs(monkeypatch, tmp_path / "outside")


def campaign(place: Path, *options: str) -> Result:
    """The command, with a few usual options."""
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, [*options, *OPTIONS, "--dir", str(place)])


def failing(error: Exception) -> Callable[[], str]:
    """The end of a run that raises."""

    def end() -> str:
        raise error

    return end


def test_the_lab_of_a_violated_run_outlives_the_runs_after_it(labs: Labs, tmp_path: Path) -> None:
    """With its database, under a name of its own; the labs of runs that hold are gone."""
    labs.ends = {0: lambda: "violated", 1: lambda: "violated"}
    done = campaign(tmp_path / "c", "--runs", "3")
    assert done.exit_code == 1
    assert labs.ran == [0, 1, 2]
    kept = sorted(path.name for path in (tmp_path / "c").glob("lab-*"))
    assert kept == ["lab-0-run-0", "lab-0-run-1"]
    assert (tmp_path / "c/lab-0-run-1/run-1").exists()
    assert (tmp_path / "c/lab-0-run-0/postgres/data/table").read_text() == "lab 0"
    assert f"the lab of run 0 is kept in {tmp_path}/c/lab-0-run-0" in done.stderr


def test_the_printed_command_runs_a_failed_run_again_beside_the_campaign(
    labs: Labs, tmp_path: Path
) -> None:
    """As often as one likes; book and labs of the campaign stay as they are."""
    labs.ends = {1: lambda: "violated"}
    place = tmp_path / "a place"
    told = campaign(place, "--runs", "3").stdout
    book = (place / "runs.jsonl").read_bytes()
    printed = next(line for line in told.splitlines() if "repeat it by" in line).split("`")[1]
    program, name, *arguments = shlex.split(printed)
    assert (program, name) == (".venv/bin/symphony", "campaign")
    app = typer.Typer()
    command.register(app)
    for _ in range(2):
        again = CliRunner().invoke(app, arguments)
        assert again.exit_code == 1
        assert "run 1 (seed 1) is violated" in again.stdout
    assert labs.ran == [0, 1, 2, 1, 1]
    assert (place / "runs.jsonl").read_bytes() == book
    assert (place / "again-1/lab-0-run-1").is_dir()
    assert (place / "again-1-2/lab-0-run-1").is_dir()
    assert (place / "lab-0-run-1").is_dir()


def test_what_was_not_covered_is_known_to_a_resumed_campaign(labs: Labs, tmp_path: Path) -> None:
    """It stands in the book, so another process that starts no lab publishes it as well."""
    first = campaign(tmp_path / "c", "--runs", "1")
    page = tmp_path / "page.md"
    again = campaign(tmp_path / "c", "--runs", "1", "--report", str(page))
    assert labs.ran == [0]
    for told in (first.stdout, again.stdout, page.read_text()):
        assert "not covered: disk_full at payment-1: needs a loop device" in told
        assert "not covered: memory at web-1: no room" in told


@pytest.mark.parametrize(
    "error",
    [
        TrafficFailed("the load ended"),
        AuditFailed("the auditor ended by signal 9"),
        LabError("broker is gone"),
    ],
)
def test_a_run_without_a_verdict_is_no_violation(
    labs: Labs, tmp_path: Path, error: Exception
) -> None:
    """Exit code 2 and one line; the lab is kept, and the same command does the run again."""
    labs.ends = {1: failing(error)}
    done = campaign(tmp_path / "c", "--runs", "2")
    assert done.exit_code == 2
    told = done.stderr.splitlines()[-1]
    assert told.startswith("symphony campaign: run 1 came to no verdict: ")
    assert (tmp_path / "c/lab-0-run-1/run-1").exists()
    labs.ends = {}
    assert campaign(tmp_path / "c", "--runs", "2").exit_code == 0
    assert labs.ran == [0, 1, 1]
    assert (tmp_path / "c/lab-0-run-1/run-1").exists()


def test_a_failed_lab_that_a_killed_campaign_left_is_kept_too(labs: Labs, tmp_path: Path) -> None:
    """Killed between the book and the move: the next lab of that number makes room."""
    book = CampaignBook(tmp_path / "c", SETTINGS)
    book.append(result(0, [], "violated"))
    (tmp_path / "c/lab-0").mkdir()
    (tmp_path / "c/lab-0/evidence").touch()
    assert campaign(tmp_path / "c", "--runs", "2").exit_code == 1
    assert labs.ran == [1]
    assert (tmp_path / "c/lab-0-run-0/evidence").exists()


def test_only_faults_that_are_wanted_are_dealt(labs: Labs, tmp_path: Path) -> None:
    """One that the machine cannot do at all is refused at once, with exit code 2."""
    assert campaign(tmp_path / "c", "--runs", "1", "--only", "kill").exit_code == 0
    done = campaign(tmp_path / "d", "--runs", "1", "--only", "disk_full")
    assert done.exit_code == 2
    assert "no fault is possible" in done.stderr
    assert labs.ran == [0]


def test_every_second_lab_has_two_workers_of_every_role_that_shares_its_work(
    labs: Labs, tmp_path: Path
) -> None:
    """All roles of a consumer group and the relay; web has a port of its own."""
    assert campaign(tmp_path / "c", "--run", "5").exit_code == 0
    roles = ("relay", "orchestrator", "payment", "inventory", "shipping", "notification", "dlq",
             "slo")  # fmt: skip
    assert labs.scaled == {f"{role}=2" for role in roles}
