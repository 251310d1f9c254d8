"""A fault whose effect was not seen is void, and one that is not undone is no fault that ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos import records
from chaos.lab.client import Lab
from chaos.nemesis import guardian, lease
from chaos.nemesis.engine import Injection, Nemesis, _Injecting
from chaos.nemesis.faults import REGISTRY, Fault, Run, Unproved, disk_full, inside, late_results
from chaos.nemesis.faults.gateway import GatewayDecline
from chaos.nemesis.faults.wire import Seen
from chaos.nemesis.ledger import Deed, Ledger
from chaos.nemesis.world import World
from chaos.records import Record

pytestmark = pytest.mark.unit

COMMAND = "00000000-0000-4000-8000-000000000001"


def run_of(world: object, for_s: float = 0.0, **notes: Any) -> Run:
    """An injection at payment-1 under way in a lab that is a fake."""
    run = Run(cast(World, world), "payment-1", "a", 0, for_s, {}, cast(Any, None))
    run.notes |= notes
    return run


# The engine


class Trivial(Fault):
    """Does nothing, which can be undone or not; `tells` is what it says afterwards."""

    name = "trivial"
    aims = "nothing"
    recovers_from = "none"

    def __init__(self, undone: Path, tells: Callable[[], str] = str) -> None:
        self._undone, self._tells = undone, tells

    def targets(self, world: World) -> list[str]:
        return ["x"]

    def start(self, run: Run) -> None:
        run.undo("remove", path=str(self._undone))

    def prove(self, run: Run) -> str:
        return "seen"

    def after(self, run: Run) -> str:
        return self._tells()


@pytest.fixture
def inject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], Injection]:
    """Injects one fault into a lab that does not run, without a guardian."""
    directory = guardian.directory_of(tmp_path)
    monkeypatch.setattr(guardian, "ensure", lambda _: directory.mkdir(exist_ok=True))

    def injected(fault: Fault) -> Injection:
        nemesis, world = Nemesis(Lab(tmp_path)), SimpleNamespace(owned=lambda _: frozenset())
        deed = Deed("trivial-x-1", "trivial", "x", 0, 60.0, {})
        return _Injecting(nemesis, fault, cast(World, world), deed, 0.0).run(threading.Event())

    return injected


def phases(lab_dir: Path) -> list[str]:
    return [line["phase"] for line in Ledger(lab_dir / "nemesis.jsonl").lines()]


def test_what_could_not_be_undone_has_no_end_and_keeps_its_lease(
    tmp_path: Path, inject: Callable[[Fault], Injection]
) -> None:
    """The ledger says so, the lease is due for the guardian, the caller is told."""
    done = inject(Trivial(tmp_path.parent / "outside"))
    assert phases(tmp_path) == ["started", "proved", "not_undone"]
    assert "is not in the lab" in done.after_failed
    (left,) = lease.found(guardian.directory_of(tmp_path))
    assert left.due(left.expires_at_s + 1)
    assert left.take()


def test_what_did_not_show_afterwards_is_told(
    tmp_path: Path, inject: Callable[[Fault], Injection]
) -> None:
    """The fault was proved and has ended, and yet not all is well."""

    def nothing() -> str:
        raise Unproved("no dead letter")

    done = inject(Trivial(tmp_path / "file", nothing))
    assert (done.outcome, done.after_failed) == ("proved", "afterwards: no dead letter")
    assert phases(tmp_path) == ["started", "proved", "ended"]


def test_an_injection_that_went_well_says_nothing_of_afterwards(
    tmp_path: Path, inject: Callable[[Fault], Injection]
) -> None:
    """What a fault tells afterwards is a detail."""
    done = inject(Trivial(tmp_path / "file", lambda: "all well"))
    assert (done.after_failed, done.detail) == ("", "seen; all well")
    assert lease.found(guardian.directory_of(tmp_path)) == []


def test_a_fault_that_could_not_begin_is_asked_for_nothing_afterwards(
    tmp_path: Path, inject: Callable[[Fault], Injection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is void, and has ended."""

    def refuse(self: Fault, run: Run) -> None:
        raise Unproved("no group")

    def never() -> str:
        raise AssertionError

    monkeypatch.setattr(Trivial, "start", refuse)
    done = inject(Trivial(tmp_path / "file", never))
    assert (done.outcome, done.detail, done.after_failed) == ("void", "no group", "")
    assert phases(tmp_path) == ["started", "void", "ended"]


# The gateway


@pytest.mark.parametrize(
    ("outcome", "amount_minor", "shown"),
    [("declined", 1000, True), ("declined", 1013, False), ("ok", 1000, False)],
)
def test_a_charge_that_is_always_declined_proves_nothing(
    outcome: str, amount_minor: int, shown: bool
) -> None:
    """The simulator's test amount is declined without a fault, too."""
    line = {"op": "charge", "outcome": outcome, "amount_minor": amount_minor}
    assert GatewayDecline().shows(line) is shown


# The network


def answered(first_s: float, last_s: float, ended: str = "open", ended_s: float = 2.0) -> Seen:
    return Seen(0.0, (200, 200), first_s, last_s, ended, ended_s)


@pytest.mark.parametrize(
    ("fault", "usual", "now"),
    [
        ("net_latency", answered(0.01, 0.02), answered(0.15, 0.16)),
        ("net_bandwidth", answered(0.01, 0.02), answered(0.2, 0.4)),
        ("net_reset_peer", answered(0.01, 0.02), answered(0.0, 0.0, "reset")),
        ("net_slow_close", answered(0.01, 0.02, "closed", 0.1), answered(0.01, 0.02, "closed")),
    ],
)
def test_a_network_is_faulty_only_beside_the_usual(fault: str, usual: Seen, now: Seen) -> None:
    """What was so before the fault is no effect of it."""
    one = REGISTRY[fault]
    run = run_of(None)
    run.params = one.params
    shows = cast(Any, one).shows
    assert shows(run, usual, now)
    assert not shows(run, now, now)
    assert not shows(run, usual, usual)


def test_a_network_that_is_as_usual_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow server before and after: the injection proves nothing."""
    fault, slow = cast(Any, REGISTRY["net_latency"]), answered(0.5, 0.6)
    monkeypatch.setattr(type(fault), "look", lambda self, run: slow)
    run = run_of(None, usual=slow)
    run.params = fault.params
    with pytest.raises(Unproved, match="before"):
        fault.prove(run)


# The clock


def stamped(ce_time: str, timestamp_s: float) -> Record:
    headers = (("ce_time", ce_time.encode()), ("ce_causationid", COMMAND.encode()))
    return Record("payment.result", 0, b"k", b"{}", headers, 0, int(timestamp_s * 1000))


MIDNIGHT_S = 1767225600.0  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("ce_time", "skew_s", "off_s"),
    [
        ("2026-01-01T01:00:00Z", 3600.0, 3600.0),
        ("2025-12-31T23:00:01Z", -3600.0, -3599.0),
        ("2026-01-01T00:00:00Z", 3600.0, None),
        ("2026-01-01T00:00:00Z", 4.0, None),
        ("often", 3600.0, None),
    ],
)
def test_a_clock_is_read_off_what_was_written(
    ce_time: str, skew_s: float, off_s: float | None
) -> None:
    """`ce_time` beside the broker's time; what stood there before the fault does not count."""
    record = stamped(ce_time, MIDNIGHT_S)
    before_ms, after_ms = int(MIDNIGHT_S * 1000), int(MIDNIGHT_S * 1000) + 1
    assert inside.skewed([record], skew_s, before_ms) == off_s
    assert inside.skewed([record], skew_s, after_ms) is None


def test_a_clock_that_nothing_was_written_by_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the plug-in says that the clock is wrong."""
    monkeypatch.setattr(inside, "WRITTEN_S", 0.0)
    monkeypatch.setattr(records, "read", lambda *_, **__: iter(()))
    run = run_of(SimpleNamespace(bootstrap=""), skew_s=3600.0, since_ms=0)
    with pytest.raises(Unproved, match=r"payment\.result"):
        inside.Clock().prove(run)


@pytest.mark.parametrize("role", ["relay", "dlq"])
def test_a_clock_that_writes_nothing_cannot_be_set_wrong(role: str) -> None:
    """Whether it was could not be seen."""
    clock = inside.Clock()
    assert role in clock.unavailable(cast(World, None), f"{role}-1")
    assert clock.unavailable(cast(World, None), "payment-2") == ""


# Late results


@pytest.mark.parametrize(("done_s", "late_s"), [(0.0, 12.5), (10.0, None)])
def test_a_result_is_late_by_its_inbox_row(done_s: float, late_s: float | None) -> None:
    """From the effect's commit to the broker's time of the first result."""
    first, again = stamped("", MIDNIGHT_S + 12.5), stamped("", MIDNIGHT_S + 99)
    arrived = late_results.arrivals([first, again], int(MIDNIGHT_S * 1000))
    assert late_results.latest(arrived, {COMMAND: MIDNIGHT_S + done_s}, 12.0) == late_s


def test_results_that_nobody_held_back_are_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failpoint's line in the log is not enough."""
    monkeypatch.setattr(late_results, "OVERDUE_S", 0.0)
    monkeypatch.setattr(records, "read", lambda *_, **__: iter([stamped("", MIDNIGHT_S)]))
    world = world_of(tmp_path, f"{late_results.STRUCK} {late_results.POINT}\n")
    world.sql = lambda *_: [(COMMAND, MIDNIGHT_S)]
    run = run_of(world, size=0)
    run.params, run.began_s = {"delay_s": 0.1}, 0.0
    with pytest.raises(Unproved, match="after its effect"):
        late_results.LateResults().prove(run)


# The full disk


def world_of(directory: Path, log: str, **process: Any) -> SimpleNamespace:
    """A lab whose worker has written `log` and is `process` now."""
    file = directory / "worker.log"
    file.write_text(log)
    return SimpleNamespace(
        bootstrap="",
        plan=SimpleNamespace(files=SimpleNamespace(log_of=lambda _: file)),
        lab=SimpleNamespace(process=lambda _: process),
        tables_dir=lambda _: directory,
    )


@pytest.mark.parametrize(
    ("log", "pid", "met"),
    [
        ("IO error: No space left on device: 4.log\n", 7, "says: No space left"),
        ("all quiet\n", None, "has ended: with exit code 70"),
        ("all quiet\n", 7, ""),
    ],
)
def test_a_full_disk_is_met_or_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, pid: int | None, met: str
) -> None:
    """A disk that is full is nothing to a worker that writes nothing."""
    monkeypatch.setattr(disk_full, "probe_full", lambda _: None)
    monkeypatch.setattr(disk_full, "MET_S", 0.0)
    world = world_of(tmp_path, log, pid=pid, last_exit="with exit code 70")
    run = run_of(world, pid=7, size=0, filler=1)
    if met:
        assert met in disk_full.DiskFull().prove(run)
    else:
        with pytest.raises(Unproved, match="meets its full disk"):
            disk_full.DiskFull().prove(run)
