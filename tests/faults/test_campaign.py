"""A short campaign on a real lab: faults at random over all roles, audited, resumable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.whole_lab import processes_of
from tests.waiting import wait_until

RUNS = int(os.environ.get("CAMPAIGN_RUNS", "2"))
SEED = os.environ.get("CAMPAIGN_SEED", "5")
FAULTS = 4
ORDERS = 200
LIMIT_S = 180 * RUNS
"""Two runs, as `make test` has them, may take 6 minutes; they need about half of that."""

pytestmark = [pytest.mark.faults, pytest.mark.timeout(LIMIT_S)]


def command(directory: Path, runs: int) -> list[str]:
    """A campaign small enough for every commit."""
    return [
        *(sys.executable, "-m", "app.cli", "campaign", "--runs", str(runs), "--seed", SEED),
        *("--faults", str(FAULTS), "--orders", str(ORDERS), "--rate", "25", "--fresh-every", "5"),
        *("--dir", str(directory), "--json"),
    ]


def campaign(directory: Path, runs: int) -> tuple[int, list[dict[str, Any]], str]:
    """Run it: exit code, runs, what it said."""
    done = subprocess.run(
        command(directory, runs), check=False, capture_output=True, text=True, timeout=LIMIT_S - 10
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_short_campaign_holds_proves_its_faults_and_can_be_resumed(public_dir: Path) -> None:
    """Every run holds; nearly every possible fault is proved; nothing is left; again, it does
    nothing.
    """
    place = public_dir / "campaign"
    code, runs, told = campaign(place, RUNS)
    assert code == 0, told[-6_000:]
    assert [run["result"] for run in runs] == ["holds"] * RUNS
    injected = [one for run in runs for one in run["injections"]]
    assert len(injected) == RUNS * FAULTS
    possible = [one for one in injected if one["outcome"] != "skipped"]
    proved = [one for one in possible if one["outcome"] == "proved"]
    assert len(proved) >= len(possible) - 1, [one for one in possible if one not in proved]
    assert len({one["fault"] for one in proved}) >= FAULTS
    assert all(run["accepted"] >= ORDERS * 5 / 6 for run in runs)
    idle = {name for name, count in runs[-1]["examined"].items() if not count}
    assert idle <= {"O2", "D1", "D2"}
    assert processes_of(place) == []
    again = campaign(place, RUNS)
    assert again[:2] == (0, runs)
    assert "faults" not in again[2]


def test_an_interrupted_campaign_leaves_nothing_behind(public_dir: Path) -> None:
    """Ctrl-C in the middle of a run: faults undone, lab gone, exit code 130, no run counted."""
    place = public_dir / "campaign"
    with subprocess.Popen(
        command(place, 1), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = ""
        while "proved" not in line and process.poll() is None:
            line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=200)
    assert process.returncode == 130, told
    assert json.loads(out) == []
    assert "the same command goes on here" in told
    wait_until(lambda: not processes_of(place), timeout_s=20, what="no process is left")
