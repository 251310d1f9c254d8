"""Who acts on the canary takes turns and knows what was done before: never on a stale view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from app.control.canary import KEY, CanaryConfig, Split, encode
from app.control.publisher import Acked
from app.db import canary
from app.db.engine import Database
from app.domain.canary import ArmFigures, Judgement, Verdict
from app.settings import load_settings
from tests.integration.api_client import query
from tests.waiting import eventually
from web.canary import CanaryControl, Comparison
from web.context import Context

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

OLD = datetime.now(UTC) - timedelta(hours=1)


class Topic:
    """The control topic; each worker reads it when it is told to, or not yet."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def percents(self) -> list[float]:
        return [msgspec.json.decode(one, type=CanaryConfig).percent for one in self.records]


class Board:
    """A board that has read nothing since it was last asked to."""

    def __init__(self, topic: Topic, split: Split) -> None:
        self._topic, self._split = topic, split
        self.caught_up = asyncio.Event()
        self.caught_up.set()

    async def start(self) -> None:
        await self.reach(len(self._topic.records), 1)

    async def stop(self) -> None:
        return

    async def reach(self, version: int, timeout_s: float) -> None:
        for place in range(self._split.version, version):
            assert self._split.apply(KEY, self._topic.records[place], place + 1) == ""


class Publisher:
    """Takes changes at once; both roles have a live worker."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    async def publish(self, key: str, value: bytes) -> int:
        self._topic.records.append(value)
        return len(self._topic.records)

    async def end(self) -> int:
        return len(self._topic.records)

    async def listen(self) -> None:
        return

    async def await_acks(self, version: int, workers: tuple[str, ...], timeout_s: float) -> Acked:
        return Acked(workers, ())

    def heard(self) -> Mapping[str, Any]:
        roles = ("orchestrator", "payment-canary")
        return {
            role: SimpleNamespace(role=role, version=len(self._topic.records)) for role in roles
        }

    async def close(self) -> None:
        return


class Control(CanaryControl):
    """A control that finds every window healthy, and judges only when it is told to."""

    async def compare(self, since: datetime, until: datetime, reader: Any = None) -> Comparison:
        healthy = Judgement(Verdict.HEALTHY, ())
        return Comparison(since, until, ArmFigures(), ArmFigures(), healthy)

    async def judge(self) -> None:
        await self._judge_once()


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    settings = load_settings(role="web", postgres_dsn=database)
    opened = await Database.open(settings, application_name="canary-test")
    yield opened
    await opened.close()


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    """A control topic on which 30 % were asked for an hour ago."""
    made = Topic()
    began = CanaryConfig(percent=30, auto=True, by="ada", since=OLD)
    made.records.append(encode(began))
    monkeypatch.setattr("web.canary.board", lambda _settings, split, _clock: Board(made, split))
    monkeypatch.setattr("web.canary.Publisher", lambda *_args, **_more: Publisher(made))
    return made


@asynccontextmanager
async def worker(db: Database) -> AsyncIterator[Control]:
    """A web worker's control; its own rounds are too far apart to come."""
    settings = load_settings(role="web", canary_interval_s=3600, canary_promotion="full")
    control = Control(lambda: Context(settings, db))
    await control.start()
    try:
        yield control
    finally:
        await control.stop()


@contextmanager
def nothing_done(database: str, topic: Topic) -> Iterator[None]:
    """What is inside publishes nothing and records nothing."""
    before = list(topic.records), query(database, "select id from ops.audit_log")
    yield
    assert (topic.records, query(database, "select id from ops.audit_log")) == before


def stopped() -> CanaryConfig:
    return CanaryConfig(percent=0, auto=True, by="bob", since=datetime.now(UTC))


async def test_a_judge_does_not_overwrite_a_change_that_it_had_not_read(
    database: str, db: Database, topic: Topic
) -> None:
    """An operator stops the canary at another worker just before this one would promote it."""
    async with worker(db) as judge, worker(db) as other:
        await other.change(stopped(), action="canary.change")
        with nothing_done(database, topic):
            await judge.judge()
    assert topic.percents() == [30, 0]


async def test_of_two_judges_one_after_the_other_the_first_acts(
    database: str, db: Database, topic: Topic
) -> None:
    """The second one had not heard yet that the canary is promoted."""
    async with worker(db) as first, worker(db) as second:
        await first.judge()
        assert topic.percents() == [30, 100]
        with nothing_done(database, topic):
            await second.judge()


async def test_a_change_waits_for_a_judgement_and_a_judgement_for_nobody(
    database: str, db: Database, topic: Topic
) -> None:
    """Both act under one lock: the operator's word is the last one."""
    waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
    async with worker(db) as control:
        async with db.transaction() as tx:
            assert await canary.lead(tx)
            with nothing_done(database, topic):
                await control.judge()
            change = asyncio.create_task(control.change(stopped(), action="canary.change"))

            async def waits() -> bool:
                return change.done() or bool(query(database, waiting))

            await eventually(waits, timeout_s=30, what="the change waits for the lock")
            assert topic.percents() == [30]
        await change
    assert topic.percents() == [30, 0]
