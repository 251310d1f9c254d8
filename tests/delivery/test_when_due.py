"""Records that wait until they are due: never early, in the order of their times, and blameless."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from app.clock import ManualClock
from app.delivery.killer import Group
from app.delivery.patience import Abandoned
from app.delivery.state import BatchState
from app.delivery.step import ConsumerSpec, Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from app.delivery import Applied, Event
from app.settings_model import Settings

pytestmark = pytest.mark.unit

START = datetime(2026, 1, 1, tzinfo=UTC)


class Tier:
    """A handler whose records are due so many seconds after the start; None is at once."""

    def __init__(self, due_s: dict[int, float | None]) -> None:
        self._due_s = due_s

    def due_at(self, event: Event) -> datetime | None:
        due_s = self._due_s[event.offset]
        return None if due_s is None else START + timedelta(seconds=due_s)

    async def apply(self, tx: Any, events: Sequence[Event], now: datetime) -> list[Applied]:
        raise AssertionError("the stage runs nothing")


class Waiting:
    """A step over records of mixed due times, on a clock that only waiting moves."""

    def __init__(self, due_s: dict[int, float | None], revoked_after_s: float = 1e9) -> None:
        self.clock = ManualClock(START)
        self.ran: list[tuple[float, list[int]]] = []
        self.journaled: list[list[int]] = []
        self.open_while_waiting = False
        self._open = 0
        self._revoked_after_s = revoked_after_s
        app: Any = SimpleNamespace(
            clock=self.clock,
            killer=self,
            settings=Settings(role="dlq", dead_letters_max=1, dead_letters_window_s=1.0),
        )
        spec = ConsumerSpec("tier", ("retry.5s",), Tier(due_s), None, {}, raw=True)
        self.step = Step(app, spec)
        self.step._run_records = self._run  # type: ignore[method-assign,assignment]
        self.step.patience.pause = self._pause  # type: ignore[method-assign,assignment]
        self.records = [
            SimpleNamespace(topic="retry.5s", partition=0, offset=offset, key=b"k", headers=())
            for offset in sorted(due_s)
        ]

    async def run(self) -> None:
        handler: Any = self.step._due
        await self.step._run_when_due(handler, Group(self.records))  # type: ignore[arg-type]

    @asynccontextmanager
    async def watch(self, consumer: str, group: Group) -> AsyncIterator[None]:
        self.journaled.append([one.offset for one in group.records])
        self._open += 1
        yield
        self._open -= 1

    async def _run(self, records: Sequence[Any]) -> None:
        assert self.step.state.view().state is BatchState.WORKING
        self.ran.append((self.clock.monotonic(), [one.offset for one in records]))

    async def _pause(self, duration_s: float) -> None:
        assert self.step.state.view().state is BatchState.WAITING
        self.open_while_waiting |= self._open > 0
        if self.clock.monotonic() + duration_s > self._revoked_after_s:
            raise Abandoned
        self.clock.advance(duration_s)


async def test_each_record_runs_when_it_is_due() -> None:
    """A late record at the head of the batch holds up no earlier one; those without a time, or
    past it, run at once; equal times run together."""
    stage = Waiting({0: 4.0, 1: 1.0, 2: None, 3: 4.0, 4: -2.0, 5: 2.5})
    await stage.run()
    assert stage.ran == [(0.0, [2, 4]), (1.0, [1]), (2.5, [5]), (4.0, [0, 3])]


async def test_what_waits_is_not_journaled() -> None:
    """A worker killed while records wait must not count as killed by them."""
    stage = Waiting({0: 1.0, 1: 2.0})
    await stage.run()
    assert stage.journaled == [[0], [1]]
    assert not stage.open_while_waiting


async def test_a_revocation_abandons_what_waits() -> None:
    """Nothing runs early on the way out."""
    stage = Waiting({0: 1.0, 1: 9.0}, revoked_after_s=5.0)
    with pytest.raises(Abandoned):
        await stage.run()
    assert stage.ran == [(1.0, [0])]
