"""A tick whose COMMIT was done and never answered: its outputs are published all the same."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from app.db import inbox
from app.delivery import Applied, Ticked
from app.delivery.spans import Spans
from app.delivery.ticks import Ticker
from app.errors import DatabaseOutage
from app.ids import uuid5
from app.messages import Output
from app.settings_model import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from app.delivery.effects import Finished

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT_ID = uuid5("00000000-0000-0000-0000-000000000000", "timer")
OUTPUT = Output("out", b"key", b"value", [])


class Database:
    """An inbox of ticks; as many commits as `unanswered` says are done and not answered."""

    def __init__(self, unanswered: int) -> None:
        self.rows: dict[str, list[Any]] = {}
        self._unanswered = unanswered

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Database]:
        yield self

    async def execute(self, statement: Any, **columns: Any) -> int:
        if statement is inbox._SENT:
            for event_id in columns["event_ids"]:
                self.rows[event_id][0] = inbox.Status.DONE
            return len(columns["event_ids"])
        assert statement is inbox._CLAIM
        for event_id, packed in zip(columns["event_ids"], columns["outputs"], strict=True):
            self.rows[event_id] = [inbox.Status.TICKED, packed]
        if self._unanswered:
            self._unanswered -= 1
            raise DatabaseOutage("no answer")
        return -1

    async def fetch(self, statement: Any, **_: Any) -> list[tuple[Any, ...]]:
        assert statement is inbox._UNSENT
        ticked = inbox.Status.TICKED
        return [(one, 0, row[1]) for one, row in self.rows.items() if row[0] is ticked]


class Timer:
    """One timer, which fires once: its second try finds that it has fired."""

    def __init__(self) -> None:
        self.fired = False

    def recovered(self, partitions: Sequence[int]) -> None:
        """Nothing is kept."""

    async def tick(self, tx: Any, partition: int, now: datetime) -> list[Ticked]:
        del tx, partition, now
        if self.fired:
            return []
        self.fired = True
        return [Ticked(EVENT_ID, b"key", Applied((OUTPUT,)))]


class Step:
    """Keeps what is published; repeats what meets an outage."""

    idempotency = None

    def __init__(self) -> None:
        self.published: list[Output] = []
        self.patience = self
        self.spans = Spans(Settings(role="payment"), "payment")

    async def run(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await attempt()
            except DatabaseOutage:
                continue

    async def publish(self, finished: Sequence[Finished]) -> None:
        self.published += [output for one in finished for output in one.outputs]


@pytest.mark.parametrize("unanswered", [0, 1])
async def test_outputs_of_an_unanswered_tick_are_published_once(unanswered: int) -> None:
    """Heard or not, the commit happened: the outputs leave with this tick, and only once."""
    database, step = Database(unanswered), Step()
    app: Any = SimpleNamespace(
        db=database,
        clock=SimpleNamespace(now=lambda: NOW),
        settings=SimpleNamespace(tick_interval_s=1.0),
    )
    ticker = Ticker(app, "consumer", step, Timer())  # type: ignore[arg-type]
    await ticker._run(0)
    await ticker._run(0)
    assert [output.value for output in step.published] == [b"value"]
    assert [row[0] for row in database.rows.values()] == [inbox.Status.DONE]
