"""A batch is guessed to be fresh: a wrong guess leaves nothing, and costs one more attempt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from agents.shipping import Shipping
from app.clock import SystemClock
from app.db.statements import statement
from app.delivery import Applied, Event
from app.delivery.calls import CallingEffects
from app.delivery.effects import Effects, Finished
from app.delivery.events import Call, Reply, Write
from app.errors import Poison
from app.messages import ShippingRequested
from app.observability import metrics
from tests.integration.participants import SOON, event, opened, order

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Database, Transaction

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]
_COUNT = statement("select count(*) from shipping.shipment")


class Watched(Shipping):
    """The shipping handler; `guesses` says of each call whether it was a guess."""

    def __init__(self) -> None:
        super().__init__("/test/shipping")
        self.guesses: list[bool] = []
        self.fails_while_guessing = False

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        self.guesses.append(tx.guessing)
        if tx.guessing and self.fails_while_guessing:
            raise Poison("bad_command", "a repeated event confused the handler")
        return await super().apply(tx, events, now)


class Counting(Shipping):
    """Counts the events that it applied, as handlers do."""

    def __init__(self) -> None:
        super().__init__("/test/shipping")
        self.calls = self.counted = 0

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        self.calls += len(events)
        tx.after_commit(lambda: self._count(len(events)))
        return await super().apply(tx, events, now)

    def _count(self, number: int) -> None:
        self.counted += number


class Restoring(Shipping):
    """Keeps a working copy: how many shipments PostgreSQL knows."""

    def __init__(self) -> None:
        super().__init__("/test/shipping")

    async def restore(
        self, tx: Transaction, events: Sequence[Event]
    ) -> Sequence[tuple[Write, ...]]:
        rows = await tx.fetch(_COUNT)
        return [(Write("shipments", event.key, b"%d" % rows[0][0]),) for event in events]


class Calling:
    """A calling handler that only passes its events on; `second` runs before each completion."""

    def __init__(self) -> None:
        self.guesses: list[bool] = []

    async def begin(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Call]:
        return [Call(event.event_id) for event in events]

    async def call(self, request: str) -> str:
        return request

    async def complete(
        self, tx: Transaction, replies: Sequence[Reply], now: datetime
    ) -> list[Applied]:
        self.guesses.append(tx.guessing)
        return [Applied() for _ in replies]


class Patient:
    """The core's patience, without any."""

    async def run(self, attempt: Any) -> Any:
        return await attempt()


def effects(kind: type[Effects], database: Database, handler: Any) -> Effects:
    settings = SimpleNamespace(
        gateway_concurrency_max=10, gateway_deadline_s=5, retry_tiers=(1, 5), retry_attempts_max=4
    )
    app = SimpleNamespace(db=database, clock=SystemClock(), settings=settings)
    patience: Any = Patient()
    gate: Any = SimpleNamespace(admit=lambda _: None)
    return kind(app, "guess-test", handler, patience, gate)  # type: ignore[arg-type]


def ship() -> Event:
    return event(ShippingRequested(order_id=order(), address="1 Main Street", not_after=SOON), "s")


def shipments(dsn: str) -> int:
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*), count(distinct order_id) from shipping.shipment")
        rows, orders = cursor.fetchone() or (0, 0)
    assert rows == orders
    return int(rows)


async def test_a_fresh_batch_is_guessed_after_one_that_was_looked_up(database: str) -> None:
    """The first batch of a process is looked up; from then on one attempt each, a guess."""
    handler = Watched()
    async with opened(database) as db:
        core = effects(Effects, db, handler)
        for _ in range(3):
            assert len(await core.apply([ship(), ship()])) == 2
    assert handler.guesses == [False, True, True]
    assert shipments(database) == 6


async def test_a_repeat_undoes_the_guess_and_gets_its_stored_outputs(database: str) -> None:
    """A batch with a finished event is made again: its fresh part once, the repeat not at all."""
    handler = Watched()
    async with opened(database) as db:
        core = effects(Effects, db, handler)
        first, second = ship(), ship()
        (stored,) = await core.apply([first])
        repeated, fresh = await core.apply([first, second])
        await core.apply([ship()])
        await core.apply([ship()])
    assert handler.guesses == [False, True, False, False, True]
    assert list(repeated.outputs) == list(stored.outputs)
    assert repeated.done
    assert fresh.event_id == second.event_id
    assert shipments(database) == 4


async def test_what_a_wrong_guess_did_is_not_counted(database: str) -> None:
    """A batch that is done again is counted once, and its repeat as one."""
    handler = Counting()
    repeats = metrics.DUPLICATES.child("guess-test", "inbox")
    seen = repeats._value.get()
    async with opened(database) as db:
        core = effects(Effects, db, handler)
        first = ship()
        await core.apply([first])
        await core.apply([first, ship()])
    assert handler.calls == 4, "one, then two as a guess, then the fresh one"
    assert handler.counted == 2
    assert repeats._value.get() == seen + 1


async def test_a_repeat_restores_what_its_batch_has_just_made_of_the_order(database: str) -> None:
    """A batch may hold a repeat behind a fresh event of one order: a copy that was loaded before
    the fresh one was applied would be written over what came of it.
    """
    handler = Restoring()
    async with opened(database) as db:
        core = effects(Effects, db, handler)
        first, second = ship(), ship()
        await core.apply([first])
        _, repeated = await core.apply([second, first])
    assert [write.value for write in repeated.writes] == [b"2"]


async def test_an_error_of_a_guess_is_not_believed(database: str) -> None:
    """What a handler raises while guessing may come from a repeat: it is asked again."""
    handler = Watched()
    async with opened(database) as db:
        core = effects(Effects, db, handler)
        await core.apply([ship()])
        handler.fails_while_guessing = True
        (finished,) = await core.apply([ship()])
    assert handler.guesses == [False, True, False]
    assert finished.done
    assert shipments(database) == 2


async def test_a_slower_twin_repeats_what_the_faster_stored(database: str) -> None:
    """Both called the third party; the one whose INTENT was settled meanwhile writes nothing."""
    handler = Calling()
    async with opened(database) as db:
        slow, fast = (effects(CallingEffects, db, handler) for _ in range(2))
        commands = [ship(), ship()]
        begun = await slow._begin(commands)  # type: ignore[attr-defined]
        assert not any(isinstance(one, Finished) for one in begun)
        (settled,) = await fast.apply(commands[:1])
        replies = [Reply(one.event, one.request, one.request) for one in begun]
        finished = await slow._complete(replies)  # type: ignore[attr-defined]
    assert [one.event_id for one in finished] == [one.event_id for one in commands]
    assert list(finished[0].outputs) == list(settled.outputs)
    assert handler.guesses == [True, True, False]
