"""Facts about the gauges of one worker: lag, commits, tables, GameDays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.delivery import reporting
from app.delivery.positions import Positions, Span
from app.delivery.reporting import Reporter
from app.delivery.state import BatchState, StateTracker
from app.delivery.table_report import TableReport
from app.delivery.table_store import RebuildingStore
from app.observability import metrics
from app.observability.families import REGISTRY
from app.settings import Settings
from chaos.gameday.gauges import GameDayGauges, slug
from chaos.nemesis import lease
from chaos.nemesis.lease import Lease
from chaos.nemesis.ledger import Deed

pytestmark = pytest.mark.unit

NAME = "gauge-test"
A, B = TP("orders", 0), TP("orders", 1)


def shown(name: str, **labels: str) -> float | None:
    """A series of the registry, None when it is absent."""
    return REGISTRY.get_sample_value(name, labels)


class FakeConsumer:
    """Two partitions of one topic, with their ends."""

    def __init__(self) -> None:
        self.epoch = 1
        self.positions = Positions()
        self.positions.begin({A: 5, B: 0}, {A: 5})
        self.ends: dict[TP, int | None] = {A: 8, B: 4}

    def highwater(self, tp: TP) -> int | None:
        """Where the partition ends, None before the first fetch answered."""
        return self.ends[tp]


@pytest.fixture
def consumer() -> Iterator[FakeConsumer]:
    """A consumer whose gauges go away with the test."""
    yield FakeConsumer()
    for family in (metrics.LAG, metrics.WATERMARK_AGE, metrics.COMMIT_AGE, metrics.BATCH_STATE):
        family.forget(NAME)


def reporter(consumer: FakeConsumer, tracker: StateTracker) -> Reporter:
    """A reporter on it."""
    app: Any = SimpleNamespace(consumer=consumer)
    return Reporter(app, NAME, ("orders",), tracker)


def test_lag_is_added_up_and_forgotten_with_the_partitions(consumer: FakeConsumer) -> None:
    """One series a topic; an end that is not known makes it absent, a revocation too."""
    report = reporter(consumer, StateTracker())
    lag = {"consumer": NAME, "topic": "orders"}
    report.refresh()
    assert shown("symphony_delivery_lag_records", **lag) == 7
    consumer.ends[B] = None
    report.refresh()
    assert shown("symphony_delivery_lag_records", **lag) is None
    assert shown("symphony_delivery_watermark_age_seconds", **lag) is not None
    consumer.ends[B] = 4
    report.refresh()
    assert shown("symphony_delivery_lag_records", **lag) == 7
    consumer.positions.clear()
    report.refresh()
    assert shown("symphony_delivery_lag_records", **lag) is None
    assert shown("symphony_delivery_watermark_age_seconds", **lag) is None
    assert shown("symphony_commit_age_seconds", consumer=NAME) is None


def test_commit_age_grows_while_finished_records_wait(
    consumer: FakeConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing uncommitted is 0; from the first look at something it counts, to the commit."""
    now_s = 100.0
    monkeypatch.setattr(reporting, "monotonic", lambda: now_s)
    report = reporter(consumer, StateTracker())
    report.refresh()
    assert shown("symphony_commit_age_seconds", consumer=NAME) == 0
    consumer.positions.finish([Span(A, 5, 7)])
    report.refresh()
    now_s = 104.0
    report.refresh()
    assert shown("symphony_commit_age_seconds", consumer=NAME) == 4
    consumer.positions.note_committed({A: 7})
    report.refresh()
    assert shown("symphony_commit_age_seconds", consumer=NAME) == 0


def test_exactly_one_state_and_reason_is_shown(consumer: FakeConsumer) -> None:
    """A held batch says why; an idle one has no reason."""
    tracker = StateTracker()
    report = reporter(consumer, tracker)
    tracker.enter(BatchState.HELD, "database")
    report.refresh()
    held = {
        state: shown("symphony_delivery_batch_state", consumer=NAME, state=state)
        for state in metrics.BATCH_STATES
    }
    assert held == {"idle": 0, "working": 0, "held": 1, "waiting": 0}
    assert shown("symphony_delivery_held", consumer=NAME, reason="database") == 1
    tracker.enter(BatchState.IDLE)
    report.refresh()
    assert shown("symphony_delivery_held", consumer=NAME, reason="database") == 0
    metrics.HELD.forget(NAME)


def test_a_table_shows_what_is_left_of_its_recovery_and_its_size(tmp_path: Path) -> None:
    """Entries are those of the assigned partitions; without one the table is not shown."""
    app: Any = SimpleNamespace(conf=SimpleNamespace(tabledir=tmp_path, table_key_index_size=10))
    table: Any = SimpleNamespace(name="gauged", is_global=False, use_partitioner=False)
    store = RebuildingStore("rebuilding://", app, table, driver="rocksdict")
    for number in range(40):
        store._db_for_partition(1).put(b"%d" % number, b"x")
    store.set_persisted_offset(TP("changelog", 1), 7)
    table.data = store
    place = TP("gauged-changelog", 1)
    remaining = {place: 12, TP("gauged-changelog", 2): -1}
    recovery = SimpleNamespace(
        in_recovery=True,
        active_tps={place},
        tp_to_table={place: table},
        active_remaining=lambda: remaining,
    )
    tables: Any = {"gauged": table}
    app.tables = SimpleNamespace(recovery=recovery, items=tables.items)
    report = TableReport(app)
    report.refresh()
    assert shown("symphony_table_recovery_remaining_records", table="gauged") == 12
    assert shown("symphony_table_entries", table="gauged") == 40
    recovery.in_recovery = False
    report.refresh()
    assert shown("symphony_table_recovery_remaining_records", table="gauged") == 0
    recovery.active_tps.clear()
    report.refresh()
    assert shown("symphony_table_entries", table="gauged") is None
    assert shown("symphony_table_recovery_remaining_records", table="gauged") is None


def test_faults_from_outside_are_shown_while_their_lease_lasts(tmp_path: Path) -> None:
    """Beside the chaos rules of this worker, whose count stays as it is."""
    app: Any = SimpleNamespace(settings=Settings(role="slo", lab_dir=tmp_path))
    gauges = GameDayGauges(app)
    metrics.FAULT_ACTIVE.child("pause").inc()  # a chaos rule's
    deed = Deed("deed-1", "pause", "payment-1", 1, 60.0, {})
    held = Lease(tmp_path / lease.DIRECTORY, deed)
    gauges.look_at_faults()
    gauges.look_at_faults()
    assert shown("symphony_fault_active", fault="pause") == 2
    assert held.take()
    held.close()
    gauges.look_at_faults()
    assert shown("symphony_fault_active", fault="pause") == 1
    gauges.show_faults(Counter())
    metrics.FAULT_ACTIVE.forget("pause")


class FakePhases:
    """A database that knows the phase of the open run, or raises."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.error: Exception | None = None

    async def fetch(self, _: object) -> list[tuple[str]]:
        """The one row."""
        if self.error is not None:
            raise self.error
        return [(self.phase,)]


async def test_a_look_that_fails_is_the_end_of_what_is_known_and_not_of_looking(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A lease of an older form hides all that was shown, is told once, and goes by."""
    app: Any = SimpleNamespace(settings=Settings(role="slo", lab_dir=tmp_path))
    gauges, phases = GameDayGauges(app), FakePhases("method")
    db: Any = phases
    metrics.FAULT_ACTIVE.forget("delay")
    metrics.FAULT_ACTIVE.child("delay").inc()  # a chaos rule's
    held = Lease(tmp_path / lease.DIRECTORY, Deed("deed-2", "kill", "payment-1", 1, 60.0, {}))
    await gauges.look(db)
    assert shown("symphony_fault_active", fault="kill") == 1
    assert shown("symphony_gameday_phase", phase="method") == 1
    old = tmp_path / lease.DIRECTORY / f"old{lease.HELD}"
    old.write_text('{"deed": {"action": "old", "blast": 1}, "expires_at_s": 1, "steps": []}')
    await gauges.look(db)
    await gauges.look(db)
    assert [one.message for one in caplog.records] == ["gameday.watch_blind"]
    assert shown("symphony_fault_active", fault="kill") is None
    assert shown("symphony_fault_active", fault="delay") == 1
    assert shown("symphony_gameday_phase", phase="method") is None
    old.unlink()
    await gauges.look(db)
    assert shown("symphony_fault_active", fault="kill") == 1
    assert shown("symphony_gameday_phase", phase="method") == 1
    phases.error = KeyError("another form")
    await gauges.look(db)
    assert shown("symphony_gameday_phase", phase="method") is None
    assert held.take()
    held.close()
    gauges.forget()
    metrics.FAULT_ACTIVE.forget("delay")


def test_every_phase_of_a_gameday_is_a_label_value() -> None:
    """The words of the report, as Prometheus spells them."""
    source = (Path(__file__).parents[2] / "chaos" / "gameday").rglob("*.py")
    text = "\n".join(path.read_text() for path in source)
    for phase in metrics.GAMEDAY_PHASES:
        spelled = {"warm_up": "warm-up"}.get(phase, phase.replace("_", " "))
        assert f'"{spelled}"' in text
        assert slug(spelled) == phase
