"""Stored sagas, the dead-letter index and the outbox against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from app.db import deadletters, order_reads, outbox, sagas
from app.db.cursor import Cursor
from app.db.deadletters import DeadLetter
from app.db.engine import Database, statement
from app.db.sagas import HistoryEntry, SagaWrite
from app.errors import RowsMissed
from app.messages import Output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HISTORY = statement(
    "select event, status, reason from orders.order_history where order_id = :id order by id"
)
STATUS = statement("select state, reason, version from orders.saga where order_id = :id")
ORDER = statement(
    "insert into orders.orders"
    " (order_id, customer_id, total_minor, currency, created_at)"
    " values (:id, 'c', 1, 'EUR', now())"
)
UPDATES = statement(
    "select relname, n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where n_tup_upd > 0"
)
OUTBOX = statement("select id from ops.outbox")


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    settings: Any = SimpleNamespace(
        postgres_dsn=SecretStr(database),
        db_connect_timeout_s=5,
        db_statement_timeout_s=5,
        db_lock_timeout_s=3,
        db_pool_max=2,
    )
    facade = await Database.open(settings, application_name="sagas-test")
    yield facade
    await facade.close()


def move(
    order_id: str, expected: int, version: int, state: str = "PAYMENT_PENDING", **changes: Any
) -> SagaWrite:
    entry = HistoryEntry("moved", state, "", "cause", NOW)
    one = SagaWrite(
        order_id,
        0,
        expected,
        version,
        state,
        "",
        False,
        b"body",
        NOW,
        changes.pop("history", [entry]),
    )
    return one._replace(**changes)


async def write(db: Database, *writes: SagaWrite, now: datetime = NOW) -> set[str]:
    async with db.transaction() as tx:
        return await sagas.write(tx, writes, now)


async def test_saga_moves_only_from_the_expected_version(db: Database) -> None:
    """A write of a stale or too new version, or a second creation, touches nothing at all."""
    fresh, known, stale = (str(uuid.uuid4()) for _ in range(3))
    for order in (fresh, known, stale):
        await db.execute(ORDER, id=order)
    assert await write(db, move(known, 0, 1), move(stale, 0, 1)) == {known, stale}
    hit = await write(
        db,
        move(fresh, 0, 1),
        move(known, 1, 3, "SHIPPING_PENDING", body=b"new"),
        move(stale, 2, 3, "COMPLETED"),
    )
    assert hit == {fresh, known}
    assert await write(db, move(known, 0, 1, "CANCELLED")) == set()
    async with db.transaction() as tx:
        loaded = await sagas.load(tx, [fresh, known, stale, str(uuid.uuid4())])
    assert {order: (row.version, row.body) for order, row in loaded.items()} == {
        fresh: (1, b"body"),
        known: (3, b"new"),
        stale: (1, b"body"),
    }
    assert await db.fetch(STATUS, id=stale) == [("PAYMENT_PENDING", "", 1)]
    assert await db.fetch(STATUS, id=known) == [("SHIPPING_PENDING", "", 3)]
    assert len(await db.fetch(HISTORY, id=known)) == 2
    assert len(await db.fetch(HISTORY, id=stale)) == 1


async def test_two_writers_of_one_version_one_wins(db: Database) -> None:
    """Of two concurrent writers that saw the same version exactly one moves the saga."""
    order = str(uuid.uuid4())
    await write(db, move(order, 0, 1))
    hits = await asyncio.gather(
        write(db, move(order, 1, 2, "COMPLETED")), write(db, move(order, 1, 2, "CANCELLED"))
    )
    assert sorted(map(len, hits)) == [0, 1]
    assert len(await db.fetch(HISTORY, id=order)) == 2


async def test_cancel_that_overtakes_the_creation_leaves_a_stub(db: Database) -> None:
    """A saga may be stored before its order exists; the creation then finds it and moves it on."""
    order = str(uuid.uuid4())
    assert await write(db, move(order, 0, 1, "CANCELLED", reason="customer")) == {order}
    assert await order_reads.order(db, order) is None
    await db.execute(ORDER, id=order)
    assert await write(db, move(order, 0, 1)) == set()
    found = await order_reads.order(db, order)
    assert found is not None
    assert (found.status, found.reason, found.saga_version) == ("CANCELLED", "customer", 1)
    assert await write(db, move(order, 1, 2, "CANCELLED", reason="operator")) == {order}
    assert await db.fetch(STATUS, id=order) == [("CANCELLED", "operator", 2)]


async def test_a_transition_is_one_heap_only_update(db: Database) -> None:
    """Moving a saga touches no index and no other row."""
    order = str(uuid.uuid4())
    await db.execute(ORDER, id=order)
    await write(db, move(order, 0, 1))
    async with db.transaction() as tx:
        await sagas.write(tx, [move(order, 1, 2, "COMPENSATING", reason="timeout")], NOW)
        assert await tx.fetch(UPDATES) == [("saga", 1, 1)]


async def test_one_write_per_order(db: Database) -> None:
    """Two writes of one order in a batch are refused: their moves must be merged."""
    order = str(uuid.uuid4())
    with pytest.raises(ValueError, match="one write per order"):
        await write(db, move(order, 0, 1), move(order, 1, 2))


async def test_a_guess_is_queued_and_a_miss_undoes_it_all(db: Database) -> None:
    """While guessing every order counts as moved; a version that was not as expected is told by
    the COMMIT, and none of the batch has happened."""
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    async with db.transaction(guessing=True) as tx:
        both = [move(first, 0, 1), move(second, 0, 1)]
        assert await sagas.write(tx, both, NOW) == {first, second}
    with pytest.raises(RowsMissed):
        async with db.transaction(guessing=True) as tx:
            again = [move(first, 1, 2), move(second, 4, 5)]
            assert await sagas.write(tx, again, NOW) == {first, second}
    async with db.transaction() as tx:
        stored = await sagas.load(tx, [first, second])
    assert {one.version for one in stored.values()} == {1}


async def test_idle_sagas_of_a_partition(db: Database) -> None:
    """The scans see running sagas of their partition only, oldest first, and obey the limit."""
    orders = [str(uuid.uuid4()) for _ in range(5)]
    for number, order in enumerate(orders):
        at = NOW + timedelta(seconds=number)
        await write(db, move(order, 0, 1, next_due=at), now=at)
    await write(db, move(orders[0], 1, 2, terminal=True), move(orders[4], 1, 2, partition=1))
    async with db.transaction() as tx:
        idle = await sagas.idle(tx, 0, NOW + timedelta(seconds=60), 2)
        assert [one.order_id for one in idle] == orders[1:3]
        sagas.touch(tx, [orders[1]], NOW + timedelta(seconds=90))
        idle = await sagas.idle(tx, 0, NOW + timedelta(seconds=60), 2)
        assert [one.order_id for one in idle] == orders[2:4]


def event(order: str, event_id: str = "", **headers: str) -> Output:
    given = {
        "ce_specversion": "1.0",
        "ce_id": event_id or str(uuid.uuid4()),
        "ce_source": "/test",
        "ce_type": "order.created.v1",
        "ce_time": "2026-01-02T03:04:05Z",
        "ce_correlationid": order,
        "ce_causationid": order,
        "content-type": "application/json",
        "traceparent": "00-1-1-00",
        **headers,
    }
    named = [(name, value.encode()) for name, value in given.items()]
    return Output("order.created", order.encode(), b'{"a": "\\u00e4\'%s"}', named)


async def test_outbox_row_is_the_record(db: Database) -> None:
    """What is read from the outbox is byte for byte the record that was appended, in order."""
    outputs = [event(str(uuid.uuid4())) for _ in range(20)]
    async with db.transaction() as tx:
        outbox.append(tx, outputs, NOW)
    rows = await outbox.read(db, range(outbox.SHARDS), 100)
    assert [row.output for row in rows] == outputs
    assert {row.shard for row in rows} == {outbox.shard_of(row.aggregate_id) for row in rows}
    held = [rows[0].aggregate_id]
    assert [row.output for row in await outbox.read(db, range(8), 3, held)] == outputs[1:4]
    assert await outbox.read(db, [], 3) == []
    lag = await outbox.lag(db)
    assert lag == (20, NOW)


async def test_outbox_refuses_what_it_cannot_carry(db: Database) -> None:
    """A foreign header, a missing one or a null key raises before anything is written."""
    async with db.transaction() as tx:
        for bad in (
            event("a", **{"x-extra": "1"}),
            Output("order.created", b"k", b"v", []),
            Output("order.created", None, b"v", event("a").headers),
        ):
            with pytest.raises(ValueError, match=r"header|key"):
                outbox.append(tx, [bad], NOW)
    assert (await outbox.lag(db)).rows == 0


async def test_outbox_row_leaves_only_with_its_transaction(db: Database) -> None:
    """A rolled-back append leaves nothing; a repeated one leaves one row."""
    again = event(str(uuid.uuid4()))
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            outbox.append(tx, [again], NOW)
            raise ZeroDivisionError
    assert await db.fetch(OUTBOX) == []
    for _ in range(2):
        async with db.transaction() as tx:
            outbox.append(tx, [again], NOW)
    assert len(await db.fetch(OUTBOX)) == 1


async def test_dead_letters_are_indexed_once_with_raw_bytes(db: Database) -> None:
    """Junk bytes, U+0000 and null keys are indexed as they are; a repeat adds nothing."""
    letters = [
        DeadLetter(
            "order.created.dlt",
            0,
            offset,
            "order.created",
            1,
            7,
            "orchestrator",
            "",
            "poison",
            "bad\0json",
            [("h", "\0\ufffd")],
            None,
            b"\xff\x00junk",
            NOW,
            NOW + timedelta(seconds=offset),
        )
        for offset in range(3)
    ]
    async with db.transaction() as tx:
        assert await deadletters.record(tx, letters) == 3
        assert await deadletters.record(tx, letters) == 0
    stored = await deadletters.get(db, letters[0].id)
    assert stored is not None
    assert (stored.value, stored.key, stored.error_message) == (
        b"\xff\x00junk",
        None,
        "bad\ufffdjson",
    )
    newest = await deadletters.peek(db, letters[0].topic, 2)
    assert [one.offset for one in newest] == [2, 1]
    rest = await deadletters.peek(db, letters[0].topic, 2, after=Cursor(newest[1].at, newest[1].id))
    assert [one.offset for one in rest] == [0]
