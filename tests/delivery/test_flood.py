"""A consumer stopped by too many dead letters: held, known to its successors, released."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from app.clock import ManualClock
from app.db.floods import Flood
from app.delivery.flood import Flooded, FloodGate
from app.delivery.patience import Abandoned, Patience
from app.delivery.state import BatchState, StateTracker
from app.errors import DatabaseOutage

pytestmark = pytest.mark.unit

AT = datetime(2026, 1, 1, tzinfo=UTC)
HELD = (BatchState.HELD, "flood")


class Stage:
    """A gate of at most two dead letters, over rows in memory; `release_after` pauses an operator
    releases it, `outages` statements fail first."""

    def __init__(self, release_after: int = 2, outages: int = 0, *, stopped: bool = False) -> None:
        self.rows = {"payment": self._row("from before")} if stopped else {}
        self.pauses = 0
        self.held: list[tuple[str, str]] = []
        self._release_after, self._outages = release_after, outages
        self.state = StateTracker()
        self.revoked = False
        settings = SimpleNamespace(
            dead_letters_max=2, dead_letters_window_s=60.0, outage_budget_s=0.0
        )
        self.app: Any = SimpleNamespace(
            settings=settings, clock=ManualClock(), floods=self, lease=self._lease
        )
        self.gate = FloodGate(self.app, "payment", self.state)

    @staticmethod
    def _row(detail: str) -> Flood:
        return Flood("payment", 2, detail, AT, None, "")

    async def _lease(self) -> None:
        """Fresh."""

    async def find(self, consumer: str) -> Flood | None:
        self._fail()
        return self.rows.get(consumer)

    async def open(self, consumer: str, dead_letters: int, detail: str) -> None:
        self._fail()
        self.rows[consumer] = self._row(detail)

    def _fail(self) -> None:
        if self._outages:
            self._outages -= 1
            raise DatabaseOutage("away")

    async def pause(self, duration_s: float) -> None:
        assert duration_s > 0
        view = self.state.view()
        self.held.append((view.state, view.reason))
        if self.revoked:
            raise Abandoned
        self.pauses += 1
        if self.pauses == self._release_after:
            self.rows.clear()


async def test_a_consumer_within_its_limit_is_not_stopped() -> None:
    """Nothing is written and nothing waits."""
    stage = Stage()
    await stage.gate.begin_step(stage.pause)
    await stage.gate.admit_all(["a", "b", "a"], stage.pause)
    assert (stage.rows, stage.pauses, stage.gate.stopped) == ({}, 0, "")


async def test_one_too_many_is_held_until_released() -> None:
    """The row says so while it is held; then the whole batch passes, and counts."""
    stage = Stage()
    await stage.gate.begin_step(stage.pause)
    await stage.gate.admit_all(["a", "b", "c", "d", "e"], stage.pause)
    assert stage.held == [HELD] * 2
    assert stage.state.view().state is BatchState.WORKING
    assert stage.gate.stopped == ""
    await stage.gate.begin_step(stage.pause)
    with pytest.raises(Flooded):
        stage.gate.admit("f")


async def test_a_flood_is_written_however_long_the_database_is_away() -> None:
    """Held all the same; the row comes as soon as it can."""
    stage = Stage(release_after=4, outages=2)
    await stage.gate.admit_all(["a", "b", "c"], stage.pause)
    assert stage.pauses == 4


async def test_a_new_worker_of_a_stopped_consumer_holds_before_it_does_anything() -> None:
    """It learns of the flood with its assignment, says so, and stands before its first batch."""
    stage = Stage(stopped=True)
    await stage.gate.prepare()
    assert stage.gate.stopped == "from before"
    await stage.gate.begin_step(stage.pause)
    assert stage.held == [HELD] * 2
    assert stage.gate.stopped == ""


async def test_another_worker_of_a_stopped_consumer_finds_the_row() -> None:
    """Without a new assignment: by its next look."""
    stage = Stage()
    await stage.gate.prepare()
    stage.rows["payment"] = stage._row("elsewhere")
    stage.gate._looked_at = float("-inf")
    await stage.gate.begin_step(stage.pause)
    assert stage.pauses == 2


async def test_a_revocation_abandons_the_held_batch_and_the_consumer_stays_stopped() -> None:
    """Whoever gets the partitions, this worker too, holds again."""
    stage = Stage()
    stage.revoked = True
    with pytest.raises(Abandoned):
        await stage.gate.admit_all(["a", "b", "c"], stage.pause)
    assert stage.gate.stopped
    assert stage.rows["payment"].detail == "more than 2 dead letters within 60 s"
    with pytest.raises(Abandoned):
        await stage.gate.begin_step(stage.pause)


async def test_a_flooded_transaction_is_left_held_and_done_again() -> None:
    """Patience holds outside the attempt, past any outage budget, and then tries it once more."""
    stage = Stage(release_after=3)
    patience = Patience(stage.app, "payment", stage.state)
    patience.pause = stage.pause  # type: ignore[method-assign]
    await stage.gate.admit_all(["a", "b"], stage.pause)
    tries: list[int] = []

    async def attempt() -> str:
        tries.append(stage.pauses)
        stage.gate.admit("c")
        return "done"

    assert await patience.run(attempt) == "done"
    assert tries == [0, 3]
