"""How a worker leaves the reason of its end, and how its successor reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.delivery import exits
from app.delivery.exits import EXIT_CODE, Reason, leave_reason, read_reason

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """No marker outlives its test."""
    yield
    exits._markers.clear()


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_is_read_back(tmp_path: Path, reason: Reason) -> None:
    """What an incarnation left is what its successor reads."""
    exits.configure(tmp_path / "new", "payment-1", "a")
    leave_reason(reason, "why")
    assert read_reason(tmp_path / "new", "payment-1", "a") is reason


def test_no_marker_is_an_unclean_end(tmp_path: Path) -> None:
    """kill -9 and crashes leave nothing."""
    assert read_reason(tmp_path, "payment-1", "a") is Reason.UNCLEAN


def test_the_marker_of_another_incarnation_does_not_count(tmp_path: Path) -> None:
    """A reason left by an earlier start says nothing about this one."""
    exits.configure(tmp_path, "payment-1", "a")
    leave_reason(Reason.STOPPED, "")
    assert read_reason(tmp_path, "payment-1", "b") is Reason.UNCLEAN
    assert read_reason(tmp_path, "payment-2", "a") is Reason.UNCLEAN


def test_every_role_of_a_process_leaves_its_reason(tmp_path: Path) -> None:
    """One process that is several workers ends for all of them."""
    exits.configure(tmp_path, "one-payment", "a")
    exits.configure(tmp_path, "one-shipping", "a")
    leave_reason(Reason.LEASE, "why")
    found = [read_reason(tmp_path, f"one-{role}", "a") for role in ("payment", "shipping")]
    assert found == [Reason.LEASE, Reason.LEASE]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"reason": "nonsense", "incarnation": "a"}', "{}"]
)
def test_a_broken_marker_is_an_unclean_end(tmp_path: Path, content: str) -> None:
    """A marker torn by the crash itself never stops the successor."""
    (tmp_path / "exit-payment-1.json").write_text(content)
    assert read_reason(tmp_path, "payment-1", "a") is Reason.UNCLEAN


def test_a_full_disk_does_not_stop_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the marker cannot be written the worker says so and goes on ending."""
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    exits.configure(tmp_path, "payment-1", "a")
    exits._markers[tmp_path / "gone" / "exit.json"] = "a"
    leave_reason(Reason.OUTAGE, "disk full")
    assert "cannot write" in capsys.readouterr().err


def test_ending_skips_every_clean_up(tmp_path: Path) -> None:
    """Exit code 70 with the reason on both ways out; no finally, no atexit runs."""
    program = (
        "import atexit, pathlib, sys\n"
        "from app.delivery import exits\n"
        "atexit.register(print, 'cleaned')\n"
        f"exits.configure(pathlib.Path({str(tmp_path)!r}), 'w', 'i')\n"
        "try:\n"
        "    raise ValueError('the cause')\n"
        "except ValueError:\n"
        "    try:\n"
        "        exits.end_process(exits.Reason.LEASE, 'lost')\n"
        "    finally:\n"
        "        print('cleaned')\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (EXIT_CODE, "")
    assert "exit 70 (lease): lost" in ended.stderr
    assert "ValueError: the cause" in ended.stderr
    assert read_reason(tmp_path, "w", "i") is Reason.LEASE
