"""The demo as a newcomer runs it: one command, in a fresh lab, to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.lab.plan import LabFiles
from tests.faults.whole_lab import processes_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

CLASSES = {
    "happy": "COMPLETED",
    "declined": "CANCELLED (payment_declined)",
    "out_of_stock": "CANCELLED (out_of_stock)",
    "shipping_refused": "CANCELLED (shipping_refused)",
    "cancelled": "CANCELLED (customer)",
}
VICTIMS = ("orchestrator-1", "payment-1", "relay-1")
#: On a busy machine a step may wait long, and the class of its order must not become a timeout.
PATIENT = {"SYMPHONY_STEP_DEADLINE_S": "30"}


def demo(lab_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `symphony demo --exit` in `lab_dir` with small numbers."""
    arguments = ["demo", "--exit", "--lab-dir", str(lab_dir), "--orders", "120", "--rate", "15"]
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, **PATIENT},
    )


def test_the_demo_kills_audits_and_leaves_nothing_behind(public_dir: Path) -> None:
    """Exit code 0, every class ended as it must, each kill is proved, no process is left."""
    lab_dir = public_dir / "lab"
    done = demo(lab_dir, "--json")
    assert done.returncode == 0, done.stderr[-8_000:]
    told = done.stderr
    assert "Verdict: HOLDS: 120 orders under 3 faults: at-least-once delivery" in told
    assert "exactly" not in told.lower()
    document = json.loads(done.stdout)
    assert document["load"]["ok"] == 120
    ends = {(row["class"], row["end"]): row["orders"] for row in document["audit"]["outcomes"]}
    for name, end in CLASSES.items():
        assert ends[name, end] > 0
        assert name in told
    assert ends["happy", "COMPLETED"] == 84
    assert [kill["name"] for kill in document["kills"]] == list(VICTIMS)
    for kill in document["kills"]:
        assert kill["problem"] == ""
        assert "was ended by SIGKILL" in kill["evidence"]
        assert "serves" in kill["evidence"]
        assert 0 < kill["effect_s"] < 60
        assert f"kill -9 {kill['name']}: " in told
    assert document["audit"]["result"] == "holds"
    assert {one["state"] for one in document["audit"]["invariants"]} <= {
        "holds",
        "nothing to check",
    }
    wait_until(lambda: not processes_of(lab_dir), timeout_s=10, what="no process is left")
    assert not list(LabFiles(lab_dir).run.glob("*.json"))


def test_a_second_demo_beside_a_running_lab_is_refused(public_dir: Path) -> None:
    """The demo never takes over, or takes down, a lab that somebody else has started."""
    lab_dir = public_dir / "lab"
    files = LabFiles(lab_dir)
    files.root.mkdir(parents=True)
    holder = (
        "import sys; from chaos.lab.supervisor import only_one; from pathlib import Path\n"
        "with only_one(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(files.lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        refused = demo(lab_dir)
        assert refused.returncode == 1
        assert "a lab already runs in" in refused.stderr
        assert other.poll() is None
        other.communicate()
