"""The inventory participant on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from agents.inventory import Inventory
from app.db import inventory as stock_rows
from app.domain.inventory import decide_batch
from app.errors import Overtaken, RowsMissed
from app.messages import InventoryCommit, InventoryRelease, InventoryRequested, StockLine
from tests.integration.participants import (
    NOW,
    PAST,
    SOON,
    apply,
    bodies,
    event,
    opened,
    order,
    result,
    rows,
)

if TYPE_CHECKING:
    from datetime import datetime

    from app.delivery import Applied, Event

pytestmark = pytest.mark.integration

HANDLER = Inventory("test/inventory")


def stocked(dsn: str, **quantities: int) -> None:
    for sku, quantity in quantities.items():
        rows(dsn, "insert into inventory.stock (sku, available, restocked) values (%s, %s, %s)",
             sku, quantity, quantity)  # fmt: skip


def stock(dsn: str, sku: str) -> tuple[int, int, int]:
    sql = "select available, held, consumed from inventory.stock where sku = %s"
    available, held, consumed = rows(dsn, sql, sku)[0]
    return available, held, consumed


def reserve(order_id: str, **lines: int) -> Event:
    return reserve_until(SOON, order_id, lines)


def reserve_until(not_after: datetime, order_id: str, lines: dict[str, int]) -> Event:
    listed = [StockLine(sku=sku, quantity=quantity) for sku, quantity in lines.items()]
    body = InventoryRequested(order_id=order_id, lines=listed, not_after=not_after)
    return event(body, "reserve")


def release(order_id: str) -> Event:
    return event(InventoryRelease(order_id=order_id), "release")


def commit(order_id: str) -> Event:
    return event(InventoryCommit(order_id=order_id), "commit")


def outcomes(applied: list[Applied]) -> list[str]:
    return [result(one).outcome for one in applied]


async def test_reserve_commit_and_release(database: str) -> None:
    """The three commands move units between available, held and consumed."""
    stocked(database, A=10, B=5)
    kept, given_back = order(), order()
    async with opened(database) as db:
        held = await apply(db, HANDLER, reserve(kept, A=2, B=1), reserve(given_back, B=4))
        assert outcomes(held) == ["OK", "OK"]
        assert (stock(database, "A"), stock(database, "B")) == ((8, 2, 0), (0, 5, 0))
        assert outcomes(await apply(db, HANDLER, commit(kept), release(given_back))) == ["OK", "OK"]
    assert (stock(database, "A"), stock(database, "B")) == ((8, 0, 2), (4, 0, 1))
    sql = "select sku, qty from inventory.reservation_line where order_id = %s order by sku"
    assert rows(database, sql, kept) == [("A", 2), ("B", 1)]


async def test_all_lines_or_none(database: str) -> None:
    """An order that lacks one line holds nothing; its neighbours in the batch are served."""
    stocked(database, A=10, B=1)
    async with opened(database) as db:
        applied = await apply(
            db,
            HANDLER,
            reserve(order(), A=1, B=2),
            reserve(order(), A=1, B=1),
            reserve(order(), B=1),
            reserve(order(), UNKNOWN=1),
            reserve(order()),
        )
    assert outcomes(applied) == ["OUT_OF_STOCK", "OK", "OUT_OF_STOCK", "OUT_OF_STOCK", "OK"]
    assert (stock(database, "A"), stock(database, "B")) == ((9, 1, 0), (0, 1, 0))


@pytest.mark.parametrize("together", [True, False], ids=["one-batch", "two-batches"])
@pytest.mark.parametrize("reverse", [False, True], ids=["in-order", "release-first"])
async def test_reserve_and_release_commute(database: str, together: bool, reverse: bool) -> None:
    """A command and its compensation leave all stock available in either order."""
    stocked(database, A=10)
    one = order()
    commands = [reserve(one, A=3), release(one)]
    if reverse:
        commands.reverse()
    async with opened(database) as db:
        for batch in [commands] if together else [[command] for command in commands]:
            applied = await apply(db, HANDLER, *batch)
        assert stock(database, "A") == (10, 0, 0)
        assert rows(database, "select status from inventory.reservation") == [("RELEASED",)]
        expected = "CANCELLED" if reverse else "OK"
        if together:
            said = {result(one).operation: result(one).outcome for one in applied}
            assert said == {"release": "OK", "reserve": expected}


async def test_every_permutation_conserves_stock(database: str) -> None:
    """Reserve, release and repeats of both, in any order and grouping, give everything back."""
    stocked(database, A=1000)
    async with opened(database) as db:
        for sequence in set(itertools.permutations(["reserve", "release", "reserve", "release"])):
            for size in (1, 2, 3, 4):
                one = order()
                made = {"reserve": reserve(one, A=3), "release": release(one)}
                events = [made[name] for name in sequence]
                for start in range(0, len(events), size):
                    await apply(db, HANDLER, *events[start : start + size])
    assert stock(database, "A") == (1000, 0, 0)


async def test_commit_decides_against_release(database: str) -> None:
    """What was committed is not given back, what was released is not committed."""
    stocked(database, A=10)
    sold, returned = order(), order()
    async with opened(database) as db:
        applied = await apply(
            db,
            HANDLER,
            *(reserve(sold, A=1), commit(sold), release(sold)),
            *(reserve(returned, A=1), release(returned), commit(returned)),
        )
    assert outcomes(applied) == ["OK", "OK", "REFUSED", "OK", "OK", "REFUSED"]
    assert stock(database, "A") == (9, 0, 1)


async def test_repeats_change_nothing(database: str) -> None:
    """A repeated command gets the same answer under the same event id."""
    stocked(database, A=100)
    one = order()
    command = reserve(one, A=3)
    async with opened(database) as db:
        first = await apply(db, HANDLER, command)
        again = await apply(db, HANDLER, command, command)
    assert [answer.outputs for answer in again] == [first[0].outputs] * 2
    assert stock(database, "A") == (97, 3, 0)


async def test_late_reserve_leaves_a_tombstone(database: str) -> None:
    """Past not_after nothing is held, and a repeat with a new deadline is answered the same."""
    stocked(database, A=10)
    one = order()
    async with opened(database) as db:
        assert outcomes(await apply(db, HANDLER, reserve_until(PAST, one, {"A": 1}))) == ["EXPIRED"]
        assert outcomes(await apply(db, HANDLER, reserve(one, A=1))) == ["EXPIRED"]
    assert stock(database, "A") == (10, 0, 0)


async def test_commit_without_reservation_is_overtaken(database: str) -> None:
    """A commit that comes first fails for now and leaves no trace of its batch."""
    stocked(database, A=10)
    async with opened(database) as db:
        with pytest.raises(Overtaken):
            await apply(db, HANDLER, reserve(order(), A=1), commit(order()))
    assert stock(database, "A") == (10, 0, 0)
    assert rows(database, "select 1 from inventory.reservation") == []


async def test_warning_at_each_threshold_once(database: str) -> None:
    """Falling below 50 and below 10 is published once each, keyed by SKU."""
    stocked(database, A=52)
    async with opened(database) as db:
        said = [
            body
            for quantity in (2, 1, 39, 1, 1, 8)
            for answer in await apply(db, HANDLER, reserve(order(), A=quantity))
            for body in bodies(answer)[1:]
        ]
    assert [(body.sku, body.available, body.level) for body in said] == [
        ("A", 49, "low"),
        ("A", 9, "critical"),
    ]


async def test_hundred_buyers_of_ten_items(database: str) -> None:
    """A hundred orders in parallel transactions for ten units: exactly ten get one."""
    stocked(database, A=10)
    async with opened(database, connections=8) as db:
        answers = await asyncio.gather(
            *(apply(db, HANDLER, reserve(order(), A=1)) for _ in range(100))
        )
    said = [outcome for answer in answers for outcome in outcomes(answer)]
    assert sorted(said) == ["OK"] * 10 + ["OUT_OF_STOCK"] * 90
    assert stock(database, "A") == (0, 10, 0)
    assert rows(database, "select count(*) from inventory.reservation_line") == [(10,)]


async def test_batches_with_crossed_skus_do_not_deadlock(database: str) -> None:
    """Parallel batches over the same SKUs in any order neither deadlock nor lose a unit."""
    skus = [f"S{n}" for n in range(8)]
    stocked(database, **dict.fromkeys(skus, 400))
    draw = random.Random(7)

    def shopping() -> list[Event]:
        chosen = [draw.sample(skus, 4) for _ in range(10)]
        return [reserve(order(), **dict.fromkeys(wanted, 1)) for wanted in chosen]

    async with opened(database, connections=8) as db:
        answers = await asyncio.gather(*(apply(db, HANDLER, *shopping()) for _ in range(60)))
    taken = sum(outcome == "OK" for answer in answers for outcome in outcomes(answer))
    held = rows(database, "select sum(held), sum(available + held) from inventory.stock")[0]
    assert held == (taken * 4, 8 * 400)
    assert taken == 600


async def test_slower_twin_repeats_its_batch(database: str) -> None:
    """Two workers that both found nothing: the slower is told to repeat, stock moves once."""
    stocked(database, A=10)
    command = reserve(order(), A=3)
    async with opened(database) as db:
        with pytest.raises(RowsMissed):
            async with db.transaction() as slow:
                known, _ = await stock_rows.lock(slow, [command.body.order_id], [])
                await apply(db, HANDLER, command)
                _, left = await stock_rows.lock(slow, [], ["A"])
                batch = decide_batch(known, left, [(command.event_id, command.body)], NOW)
                stock_rows.store(slow, known, batch.reservations.values(), batch.stock.values())
        assert outcomes(await apply(db, HANDLER, command)) == ["OK"]
    assert stock(database, "A") == (7, 3, 0)
