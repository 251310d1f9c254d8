"""Where a rewind goes, and how workers wait for it, carry it out and give it up."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from app.db import rewinds
from app.db.rewinds import Position, Rewind
from app.delivery import exits, rewind
from app.delivery.exits import EXIT_REWIND, Reason
from app.delivery.rewind import Rewinder, positions
from app.errors import DatabaseOutage
from chaos.lab.keeper import EXIT_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

A, B = TopicPartition("orders", 0), TopicPartition("orders", 1)
AT = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = Rewind("r1", "payment", AT, "QUEUED", None, "ada", "", "", AT, None)


@pytest.mark.parametrize(
    ("committed", "at_time", "end", "after"),
    [
        (100, 40, 120, 40),
        (100, None, 120, 100),
        (100, 110, 120, 100),
        (100, 100, 100, 100),
        (100, None, 100, 100),
        (0, 0, 7, 0),
        (150, None, 120, 120),
    ],
)
def test_never_forward(committed: int, at_time: int | None, end: int, after: int) -> None:
    """To the first record of that time, to the end where there is none, never past what is
    committed: a rewind skips nothing. A commit beyond the end comes back to it."""
    assert positions({A: committed}, {A: at_time}, {A: end}) == [
        Position("orders", 0, committed, after)
    ]


def test_what_was_never_committed_stays() -> None:
    """It begins at the beginning anyway."""
    assert positions({B: 5}, {A: 1, B: 2}, {A: 9, B: 9}) == [Position("orders", 1, 5, 2)]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """No wish to stop outlives its test."""
    yield
    exits._wanted.clear()


def test_a_rewinding_worker_asks_to_be_started_again() -> None:
    """By an exit code of its own, which the lab's keeper knows."""
    assert (exits.stop_reason(), exits.stop_code()) == (Reason.STOPPED, 0)
    exits.stop_for(Reason.REWIND)
    assert (exits.stop_reason(), exits.stop_code()) == (Reason.REWIND, EXIT_REWIND)
    assert EXIT_AGAIN == EXIT_REWIND


class Stage:
    """A rewinder over a row in memory; the group loses a member with every look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, members: int, timeout_s: float) -> None:
        self.row: Rewind | None = QUEUED
        self.outages = 0
        self.said: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.carried_out = 0
        self._members = members
        app: Any = SimpleNamespace(
            db=None,
            role=SimpleNamespace(name="payment"),
            settings=SimpleNamespace(namespace="symphony", rewind_timeout_s=timeout_s),
        )
        self.rewinder = Rewinder(app, self.said.append)
        self.rewinder._members = self._look  # type: ignore[method-assign]
        self.rewinder._carry_out = self._carry  # type: ignore[method-assign]
        monkeypatch.setattr(rewinds, "queued", self._queued)
        monkeypatch.setattr(rewinds, "end", self._end)
        monkeypatch.setattr(rewind, "WAIT_S", 0.0)

    async def _queued(self, db: Any, role: str) -> Rewind | None:
        if self.outages:
            self.outages -= 1
            raise DatabaseOutage("away")
        return self.row

    async def _end(self, db: Any, rewind_id: str, status: str, error: str = "") -> None:
        self.ended.append((status, error))
        self.row = None

    async def _look(self) -> list[str]:
        self._members -= 1
        if self._members == 1:
            raise KafkaConnectionError("away")
        return ["payment-2.7"] if self._members >= 0 else []

    async def _carry(self, found: Rewind) -> None:
        self.carried_out += 1
        await self._end(None, found.id, rewinds.DONE)


async def test_without_a_rewind_a_worker_joins_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at the database, nothing else."""
    stage = Stage(monkeypatch, members=0, timeout_s=60)
    stage.row = None
    await stage.rewinder.before_joining()
    assert (stage.said, stage.carried_out) == ([], 0)


async def test_it_is_carried_out_once_the_group_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members leave one by one, the broker is away for a moment: then it is done, and said why
    the worker waits."""
    stage = Stage(monkeypatch, members=4, timeout_s=60)
    await stage.rewinder.before_joining()
    assert stage.carried_out == 1
    assert stage.ended == [("DONE", "")]
    assert stage.said == ["the rewind of its consumer group"]


async def test_a_group_that_does_not_empty_fails_the_rewind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker joins, and the row names who stayed."""
    stage = Stage(monkeypatch, members=10**9, timeout_s=-1)
    await stage.rewinder.before_joining()
    assert stage.carried_out == 0
    ((status, error),) = stage.ended
    assert status == "FAILED"
    assert error == "group symphony-payment still has members: payment-2.7"


async def test_a_database_that_is_away_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the worker that watches goes on working."""
    stage = Stage(monkeypatch, members=0, timeout_s=60)
    stage.outages = 1
    assert await stage.rewinder._queued() is None
    assert await stage.rewinder._queued() == QUEUED


async def test_a_working_worker_stops_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same signal as a supervisor's, once, and with its reason."""
    stage = Stage(monkeypatch, members=0, timeout_s=60)
    stage.outages = 2
    sent: list[int] = []
    monkeypatch.setattr(rewind, "LOOK_S", 0.0)
    monkeypatch.setattr(rewind.os, "kill", lambda pid, number: sent.append(number))
    await stage.rewinder.watch()
    assert sent == [rewind.signal.SIGTERM]
    assert exits.stop_reason() is Reason.REWIND
