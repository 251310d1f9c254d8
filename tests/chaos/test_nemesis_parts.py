"""The nemesis without a lab: ledger, leases, guardian, recovery signs, command line, plug-in."""

from __future__ import annotations

import json
import multiprocessing
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from app.errors import Poison
from app.messages import decode
from app.topics import MESSAGE_TOPICS
from chaos.lab.client import Lab
from chaos.lab.process import LabError, ProcessRecord
from chaos.nemesis import command, guardian, lease, recovery, undo
from chaos.nemesis.faults import disk_full, wire
from chaos.nemesis.faults.fault import Unproved
from chaos.nemesis.faults.poison import KINDS
from chaos.nemesis.inside import Inside, file_of
from chaos.nemesis.lease import Lease
from chaos.nemesis.ledger import Deed, Ledger, Phase
from tests.waiting import wait_until

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


def deed(action: str = "pause-web-1-1", lease_s: float = 60.0) -> Deed:
    return Deed(action, "pause", "web-1", 3, lease_s, {"n": 1})


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, to be stopped and woken."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


# The ledger


def test_a_line_is_the_contract(tmp_path: Path) -> None:
    """Exactly the fields that the auditor reads, one object a line."""
    book = Ledger(tmp_path / "lab" / "nemesis.jsonl")
    at_s = book.write(deed(), Phase.STARTED, "why")
    assert book.lines() == [
        {
            "action": "pause-web-1-1",
            "fault": "pause",
            "target": "web-1",
            "phase": "started",
            "at_s": at_s,
            "seed": 3,
            "lease_s": 60.0,
            "detail": "why",
            "params": {"n": 1},
        }
    ]
    assert abs(at_s - time.time()) < 5


def _conclude(path: Path, phase: Phase) -> bool:
    return Ledger(path).conclude(deed(), phase)


def test_of_several_verdicts_one_is_written(tmp_path: Path) -> None:
    """Owner and guardian may conclude at the same time; each action has one verdict, one end."""
    path = tmp_path / "nemesis.jsonl"
    Ledger(path).write(deed(), Phase.STARTED)
    phases = [Phase.PROVED, Phase.VOID, Phase.ENDED, Phase.EXPIRED] * 4
    with multiprocessing.get_context("fork").Pool(8) as pool:
        written = pool.starmap(_conclude, [(path, phase) for phase in phases])
    assert sum(written) == 2
    assert len(Ledger(path).phases("pause-web-1-1")) == 3


# Leases and the guardian


def test_only_one_can_take_a_lease(tmp_path: Path) -> None:
    """Whoever takes it undoes the fault; its file is gone once that is done."""
    mine = Lease(tmp_path, deed())
    mine.add({"step": "start", "part": "web-1"})
    (theirs,) = lease.found(tmp_path)
    assert theirs.steps == [{"step": "start", "part": "web-1"}]
    assert not theirs.orphaned
    assert [theirs.take(), mine.take()] == [True, False]
    theirs.close()
    assert lease.found(tmp_path) == []


def test_a_lease_is_due_when_its_time_is_over_or_its_owner_gone(tmp_path: Path) -> None:
    """One that its living owner has taken is the owner's, however late it is."""
    mine = Lease(tmp_path, deed(lease_s=10))
    (seen,) = lease.found(tmp_path)
    assert [seen.due(time.time()), seen.due(time.time() + 11)] == [False, True]
    assert mine.take()
    (seen,) = lease.found(tmp_path)
    assert not seen.due(time.time() + 11)
    path = next(tmp_path.glob("*.taken"))
    document = json.loads(path.read_text())
    document["owner"]["started_at"] -= 100
    path.write_text(json.dumps(document))
    (seen,) = lease.found(tmp_path)
    assert seen.due(time.time())


def test_the_guardian_ends_what_is_over(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """A lease that its owner lets pass: the frozen process goes on, and the ledger says why; beside
    it a lease that nobody can read, which is told.
    """
    record = ProcessRecord.of("sleeper", sleeper.pid)
    assert record is not None
    one = deed(lease_s=0.5)
    directory = guardian.directory_of(tmp_path)
    held = Lease(directory, one)
    (directory / "pause-of-another-form.lease").write_text('{"deed": {"of": "another form"}}')
    held.add({"step": "wake", "part": "x", "processes": [(record.pid, record.started_at)]})
    book = Ledger(tmp_path / "nemesis.jsonl")
    book.write(one, Phase.STARTED)
    sleeper.send_signal(signal.SIGSTOP)
    guardian.ensure(tmp_path)
    guardian.ensure(tmp_path)
    wait_until(
        lambda: Phase.EXPIRED in book.phases(one.action), timeout_s=20, what="the guardian's word"
    )
    assert psutil.Process(sleeper.pid).status() != psutil.STATUS_STOPPED
    assert [line["phase"] for line in book.lines()] == ["started", "void", "expired"]
    assert "its lease is over" in book.lines()[-1]["detail"]
    assert not held.take()
    assert "another-form.lease cannot be read" in (directory / "guardian.log").read_text()


class Stuck(Lab):
    """A lab that runs, so that undoing is tried again."""

    def running(self) -> bool:
        return True


def test_the_guardian_goes_on_trying_what_it_cannot_undo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`not_undone` is said once and the lease stays; `expired` comes when it is undone."""
    monkeypatch.setattr(undo, "PATIENCE_S", 0.0)
    lab, one = Stuck(tmp_path), deed(lease_s=0.0)
    directory, blocker = guardian.directory_of(tmp_path), tmp_path / "a directory"
    blocker.mkdir()
    Lease(directory, one).add({"step": "remove", "path": str(blocker)})
    book = Ledger(tmp_path / "nemesis.jsonl")
    book.write(one, Phase.STARTED)
    for _ in range(2):
        (found,) = lease.found(directory)
        assert found.due(time.time())
        assert found.take()
        guardian._end(lab, found)
        assert [line["phase"] for line in book.lines()] == ["started", "void", "not_undone"]
    assert "a directory" in book.lines()[-1]["detail"]
    blocker.rmdir()
    (found,) = lease.found(directory)
    assert found.take()
    guardian._end(lab, found)
    assert book.lines()[-1]["phase"] == "expired"
    assert lease.found(directory) == []


# Undoing


def test_undoing_repeats_until_it_works_and_tells_what_did_not(tmp_path: Path) -> None:
    """The last step goes first; without a lab nothing is tried again for long."""
    outside = tmp_path / "outside"
    outside.touch()
    inside = tmp_path / "lab" / "file"
    inside.parent.mkdir()
    inside.touch()
    steps = [
        {"step": "remove", "path": str(outside)},
        {"step": "remove", "path": str(inside)},
        {"step": "remove", "path": str(inside)},
    ]
    trouble = undo.undo(Lab(tmp_path / "lab"), steps)
    assert [outside.exists(), inside.exists()] == [True, False]
    assert len(trouble) == 1
    assert "is not in the lab" in trouble[0]


def test_a_process_that_took_a_pid_over_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    """A pid alone says nothing: its start time must be the same."""
    sleeper.send_signal(signal.SIGSTOP)
    process = psutil.Process(sleeper.pid)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED, timeout_s=10, what="it stops")
    stranger = {"step": "wake", "part": "x", "processes": [(sleeper.pid, 1.0)]}
    assert undo.undo(Lab(tmp_path), [stranger]) == []
    assert process.status() == psutil.STATUS_STOPPED


# Recovery


@pytest.mark.parametrize(
    ("target", "owned", "words"),
    [
        ("payment-2", [("payment.requested", 1)], ["consumer = %s", "(topic, partition) in"]),
        ("payment", [], ["consumer = %s"]),
        ("relay-1", [], ["order_history", "created"]),
        ("web-1", [], ["orders.orders", "created_at"]),
        ("gateway-sim", [], ["'payment'", "status = %s"]),
        ("gateway-proxy", [], ["'payment'"]),
        ("kafka-proxy", [], ["order_history", "created"]),
        ("broker", [], ["order_history", "created"]),
        ("postgres", [], ["ops.inbox"]),
    ],
)
def test_the_sign_of_recovery_is_work_that_needed_the_target(
    target: str, owned: list[tuple[str, int]], words: list[str]
) -> None:
    """A consuming worker's is on the partitions that it had owned."""
    sign = recovery.sign_of(target, owned)
    assert sign is not None
    assert all(word in sign.sql for word in words)
    assert sign.sql.count("%s") == len(sign.values) + 1
    assert ("unnest" in sign.sql) is bool(owned)


def test_what_has_no_steady_work_has_no_recovery() -> None:
    """Topics do nothing; role dlq works only after a failure."""
    assert recovery.sign_of("dlq-1", [("retry.1s", 0)]) is None
    assert recovery.sign_of("dlq") is None
    assert recovery.sign_of("topics") is None
    assert recovery.sign_of("commands-and-events") is None


# The command line


def test_times_and_parameters_are_read() -> None:
    """Units are named; numbers are numbers."""
    assert [command.seconds(text, "--for") for text in ("500ms", "10s", "1.5m")] == [0.5, 10, 90]
    assert command.parameters(["a=1", "b=0.5", "c=x"]) == {"a": 1, "b": 0.5, "c": "x"}


@pytest.mark.parametrize("text", ["10", "", "-1s", "2h", "61m", "s"])
def test_a_bad_time_is_refused(text: str) -> None:
    """The message names the option and what is expected."""
    with pytest.raises(LabError, match=r"--for .*500ms, 10s or 2m"):
        command.seconds(text, "--for")


@pytest.mark.parametrize("arguments", [["ls"], ["run", "kill", "--target", "web-1"]])
def test_without_a_lab_it_says_how_to_get_one(tmp_path: Path, arguments: list[str]) -> None:
    """Exit status 1 and one sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "nemesis", *arguments, "--lab-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "no lab runs in" in done.stderr
    assert "symphony up" in done.stderr


# The plug-in within a worker


def test_the_plug_in_does_what_the_file_says_while_it_says_so(tmp_path: Path) -> None:
    """A skewed clock and a hog, until the time in the file or until the file is gone."""
    file = file_of(tmp_path, "web-1")
    inside = Inside(file)
    inside.look(100.0)
    assert (inside.skew_s, inside.hog_mb) == (0.0, 0)
    file.write_text(json.dumps({"skew_s": -30, "hog_mb": 3, "until_s": 200}))
    inside.look(199.0)
    assert (inside.skew_s, inside.hog_mb) == (-30.0, 3)
    inside.look(200.0)
    assert (inside.skew_s, inside.hog_mb) == (0.0, 0)
    inside.look(150.0)
    file.unlink()
    inside.look(151.0)
    assert (inside.skew_s, inside.hog_mb) == (0.0, 0)


def test_a_hog_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file asks for."""
    monkeypatch.setattr("chaos.nemesis.inside.HOG_MB_MAX", 2)
    file = file_of(tmp_path, "web-1")
    file.write_text(json.dumps({"hog_mb": 50_000, "until_s": 200}))
    inside = Inside(file)
    inside.look(1.0)
    assert inside.hog_mb == 2


# What the wire shows


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that takes one question and then does `answer`."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join(10)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _pieces(connection: socket.socket) -> None:
    for _ in range(3):
        connection.sendall(b"x" * 5)
        threading.Event().wait(0.05)


@pytest.mark.parametrize(
    ("answer", "ended", "received"),
    [
        (lambda connection: connection.sendall(b"x" * 64), "closed", 64),
        (_reset, "reset", 0),
        (_pieces, "closed", 15),
        (lambda connection: threading.Event().wait(1.0), "silent", 0),
    ],
)
def test_an_exchange_tells_how_it_ended(
    answer: Callable[[socket.socket], None], ended: str, received: int
) -> None:
    """Bytes, pieces and the end, as a client sees them."""
    with server(answer) as port:
        seen = wire.exchange("kafka", "127.0.0.1", port, quiet_s=0.5)
    assert (seen.ended, seen.received) == (ended, received)
    if answer is _pieces:
        assert len(seen.pieces) == 3
        assert seen.last_s - seen.first_s >= 0.09


def test_nobody_listening_is_a_refusal() -> None:
    """A port that was just given back refuses."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = int(listening.getsockname()[1])
    assert wire.exchange("postgres", "127.0.0.1", port, quiet_s=0.5).ended == "refused"


# Poison


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("topic", sorted(MESSAGE_TOPICS))
def test_poison_is_poison_to_every_reader(kind: str, topic: str) -> None:
    """No record of the nemesis's can be decoded on any topic."""
    one = KINDS[kind](topic, 0, b"00000000-0000-4000-8000-000000000000")
    with pytest.raises(Poison):
        decode(one.topic, cast(Any, one.headers), one.key, one.value)


def test_a_disk_that_is_not_the_faults_own_is_never_filled(tmp_path: Path) -> None:
    """The guardian may have unmounted the small file system meanwhile."""
    with pytest.raises(Unproved, match="no file system of its own"):
        disk_full.fill(tmp_path, 16)
    assert list(tmp_path.iterdir()) == []
