"""What `app.db` rests on, as assertions that any database must pass: the real one and the one in
memory. Each contract runs on an empty, migrated database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid4

import psycopg2.errors
import pytest

from app.db import deadletters, inbox, intake, inventory, leases, outbox, payments, sagas, shipping
from app.db.inbox import Claim, Status
from app.db.sagas import HistoryEntry, SagaWrite
from app.domain.inventory import Reservation, Stock
from app.domain.payment import Attempt
from app.domain.shipping import Shipment
from app.errors import RowsMissed, TransientDatabase
from app.messages import Cause, Item, OrderCancel, emit
from app.topics import ORDER_CANCEL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.db.engine import Database, Transaction

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONTRACTS: list[Callable[[Database, Kit], Awaitable[None]]] = []


class Kit(Protocol):
    """What a contract needs beside the product's own statements."""

    async def stock(self, sku: str, available: int) -> None:
        """Put a stock row there."""

    async def history(self, order_id: str) -> list[str]:
        """The statuses of an order's history, in order."""

    async def until_blocked(self) -> None:
        """Return once some transaction waits for a lock."""


def contract(function: Callable[[Database, Kit], Awaitable[None]]) -> Any:
    """Add a contract."""
    CONTRACTS.append(function)
    return function


def new_id() -> str:
    return str(uuid4())


def saga(order_id: str, expected: int, version: int, **changes: Any) -> SagaWrite:
    line = HistoryEntry("moved", f"V{version}", "", "cause", NOW)
    one = SagaWrite(
        order_id, 0, expected, version, "PAYMENT_PENDING", "", False, b"body", None, [line]
    )
    return one._replace(**changes)


def claim(event_id: str, status: Status = Status.DONE, attempt: int = 0) -> Claim:
    return Claim(event_id, status, attempt, b"outputs", "topic", 1, 7)


async def claimed(db: Database, *claims: Claim) -> None:
    async with db.transaction() as tx:
        await inbox.claim(tx, "consumer", claims)


async def stored(db: Database, module: Any, known: dict[str, Any], *changed: Any) -> None:
    async with db.transaction() as tx:
        module.store(tx, known, changed)


@contract
async def a_saga_moves_only_from_its_version(db: Database, kit: Kit) -> None:
    """A miss touches nothing and writes no history."""
    one = new_id()
    async with db.transaction() as tx:
        assert await sagas.write(tx, [saga(one, 0, 2)], NOW) == {one}
    async with db.transaction() as tx:
        assert await sagas.write(tx, [saga(one, 0, 1), saga(new_id(), 3, 4)], NOW) == set()
        assert await sagas.write(tx, [saga(one, 1, 3)], NOW) == set()
        assert await sagas.write(tx, [saga(one, 2, 3, body=b"third")], NOW) == {one}
        assert (await sagas.load(tx, [one, new_id()]))[one] == (one, 3, b"third")
    assert await kit.history(one) == ["V2", "V3"]


@contract
async def a_guessed_write_is_all_or_nothing(db: Database, kit: Kit) -> None:
    """One miss of a batch raises RowsMissed at the commit, and nothing of it stays."""
    one, other = new_id(), new_id()
    async with db.transaction(guessing=True) as tx:
        await sagas.write(tx, [saga(one, 0, 1)], NOW)
    with pytest.raises(RowsMissed):
        async with db.transaction(guessing=True) as tx:
            assert await sagas.write(tx, [saga(one, 5, 6), saga(other, 0, 1)], NOW)
    async with db.transaction() as tx:
        assert {key: row.version for key, row in (await sagas.load(tx, [one, other])).items()} == {
            one: 1
        }
    assert await kit.history(other) == []


@contract
async def idle_sagas_are_found_until_they_are_touched(db: Database, _kit: Kit) -> None:
    """Running ones of the partition, longest idle first."""
    late, early, done, elsewhere = (new_id() for _ in range(4))
    async with db.transaction() as tx:
        await sagas.write(tx, [saga(late, 0, 1)], NOW + timedelta(seconds=5))
    async with db.transaction() as tx:
        rows = [
            saga(early, 0, 1),
            saga(done, 0, 1, terminal=True),
            saga(elsewhere, 0, 1, partition=1),
        ]
        await sagas.write(tx, rows, NOW)
    since = NOW + timedelta(seconds=10)
    async with db.transaction() as tx:
        assert [one.order_id for one in await sagas.idle(tx, 0, since, 5)] == [early, late]
        assert [one.order_id for one in await sagas.idle(tx, 0, since, 1)] == [early]
        sagas.touch(tx, [early], since)
    async with db.transaction() as tx:
        assert [one.order_id for one in await sagas.idle(tx, 0, since, 5)] == [late]


@contract
async def what_an_order_put_out_comes_in_the_order_of_its_history(db: Database, _kit: Kit) -> None:
    """Stored outputs of the causes of these orders, each once; a cause without a row has none."""
    one, other, first, second, third = (new_id() for _ in range(5))
    causes = [first, first, new_id(), second]
    lines = [HistoryEntry("moved", "V", "", cause, NOW) for cause in causes]
    elsewhere = [HistoryEntry("moved", "V", "", third, NOW)]
    asked = HistoryEntry("", "cancel_requested", "", "", NOW)
    async with db.transaction() as tx:
        await sagas.write(tx, [saga(one, 0, 2, history=[asked, *lines])], NOW)
        await sagas.write(tx, [saga(other, 0, 1, history=elsewhere)], NOW)
    for event_id in (second, third, first):
        await claimed(db, claim(event_id)._replace(outputs=event_id.encode()))
    async with db.transaction() as tx:
        found = await sagas.put_out(tx, "consumer", [one, new_id()])
        assert found == {one: [first.encode(), second.encode()]}
        assert await sagas.put_out(tx, "somebody else", [one]) == {}


@contract
async def a_rolled_back_transaction_leaves_nothing(db: Database, kit: Kit) -> None:
    """An error in the block undoes writes and history; nobody saw them meanwhile."""
    one = new_id()
    with pytest.raises(LookupError):
        async with db.transaction() as tx:
            await sagas.write(tx, [saga(one, 0, 1)], NOW)
            async with db.transaction() as other:
                assert await sagas.load(other, [one]) == {}
            raise LookupError
    async with db.transaction() as tx:
        assert await sagas.load(tx, [one]) == {}
    assert await kit.history(one) == []


@contract
async def a_second_writer_waits_and_misses(db: Database, kit: Kit) -> None:
    """Of two writers from one version the second waits for the first and then misses."""
    one = new_id()
    async with db.transaction() as tx:
        await sagas.write(tx, [saga(one, 0, 1)], NOW)

    async def second() -> set[str]:
        async with db.transaction() as tx:
            return await sagas.write(tx, [saga(one, 1, 2, body=b"second")], NOW)

    async with db.transaction() as tx:
        assert await sagas.write(tx, [saga(one, 1, 2, body=b"first")], NOW) == {one}
        waiting = asyncio.create_task(second())
        await kit.until_blocked()
    assert await waiting == set()
    async with db.transaction() as tx:
        assert (await sagas.load(tx, [one]))[one].body == b"first"


@contract
async def a_waiting_writer_goes_on_after_a_rollback(db: Database, kit: Kit) -> None:
    """What was rolled back is no obstacle."""
    event_id = new_id()
    with pytest.raises(LookupError):
        async with db.transaction() as tx:
            await tx.fetch(inbox._CLAIM, consumer="consumer", rows=1, **columns(event_id))
            waiting = asyncio.create_task(claimed(db, claim(event_id)))
            await kit.until_blocked()
            raise LookupError
    await waiting
    with pytest.raises(RowsMissed):
        await claimed(db, claim(event_id))


def columns(event_id: str) -> dict[str, Any]:
    return inbox._columns([claim(event_id)])


@contract
async def a_lock_is_waited_for_so_long(db: Database, kit: Kit) -> None:
    """Then the waiting statement fails as contention does."""
    one = attempt(new_id())
    await stored(db, payments, {}, one)

    async def second() -> None:
        async with db.transaction() as tx:
            await payments.lock(tx, [one.order_id])

    async with db.transaction() as tx:
        await payments.lock(tx, [one.order_id])
        waiting = asyncio.create_task(second())
        await kit.until_blocked()
        with pytest.raises(TransientDatabase):
            await waiting


@contract
async def an_event_is_finished_once(db: Database, _kit: Kit) -> None:
    """A DONE row is never taken over; one miss undoes the whole claim."""
    one, other = new_id(), new_id()
    await claimed(db, claim(one))
    with pytest.raises(RowsMissed):
        await claimed(db, claim(other), claim(one, attempt=9))
    async with db.transaction() as tx:
        rows = await inbox.lookup(tx, "consumer", [one, other])
        assert rows == {one: (Status.DONE, 0, b"outputs")}
        assert await inbox.lookup(tx, "somebody else", [one]) == {}


@contract
async def intent_is_taken_over_and_settled_once(db: Database, _kit: Kit) -> None:
    """INTENT may be claimed again; `complete` settles INTENT and nothing else."""
    one = new_id()
    await claimed(db, claim(one, Status.INTENT))
    await claimed(db, claim(one, Status.INTENT, 1))
    async with db.transaction() as tx:
        await inbox.complete(tx, "consumer", [claim(one)])
    with pytest.raises(RowsMissed):
        async with db.transaction() as tx:
            await inbox.complete(tx, "consumer", [claim(one)])
    with pytest.raises(RowsMissed):
        async with db.transaction() as tx:
            await inbox.complete(tx, "consumer", [claim(new_id())])


@contract
async def a_moved_event_is_taken_over_by_a_later_delivery_only(db: Database, _kit: Kit) -> None:
    """RETRYING and PARKED give way to a higher attempt."""
    for status in (Status.RETRYING, Status.PARKED):
        one = new_id()
        await claimed(db, claim(one, status, 1))
        with pytest.raises(RowsMissed):
            await claimed(db, claim(one, Status.DONE, 1))
        await claimed(db, claim(one, Status.DONE, 2))


@contract
async def ticks_are_unsent_until_they_are_marked(db: Database, _kit: Kit) -> None:
    """Of the partitions asked for, oldest first."""
    first, second = new_id(), new_id()
    await claimed(db, claim(first, Status.TICKED))
    await claimed(db, claim(second, Status.TICKED), claim(new_id()))
    async with db.transaction() as tx:
        unsent = await inbox.unsent_ticks(tx, "consumer", [1])
        assert {row[0] for row in unsent} == {first, second}
        assert await inbox.unsent_ticks(tx, "consumer", [0, 2]) == []
        await inbox.mark_ticks_sent(tx, "consumer", [first])
    async with db.transaction() as tx:
        assert await inbox.unsent_ticks(tx, "consumer", [1]) == [(second, 1, b"outputs")]
        assert (await inbox.lookup(tx, "consumer", [first]))[first].status is Status.DONE


def attempt(order_id: str, status: Any = "INTENT", version: int = 1, **more: Any) -> Attempt:
    money = {"charge_id": order_id, "amount_minor": 100, "currency": "EUR", **more}
    return Attempt(order_id=order_id, status=status, version=version, **money)


@contract
async def attempts_are_guarded_by_their_version(db: Database, _kit: Kit) -> None:
    """Insert once, update from the version read, locked in between."""
    one = attempt(new_id())
    await stored(db, payments, {}, one)
    with pytest.raises(RowsMissed):
        await stored(db, payments, {}, one)
    later = attempt(one.order_id, "CHARGED", 2, payment_id="pay", reason="r", refund_id="")
    await stored(db, payments, {one.order_id: one}, later)
    with pytest.raises(RowsMissed):
        await stored(db, payments, {one.order_id: one}, attempt(one.order_id, "DECLINED", 2))
    async with db.transaction() as tx:
        assert await payments.lock(tx, [one.order_id, new_id()]) == {one.order_id: later}


@contract
async def a_charge_id_stands_once(db: Database, _kit: Kit) -> None:
    """Two orders cannot share an idempotency key."""
    one = attempt(new_id())
    await stored(db, payments, {}, one)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        await stored(db, payments, {}, attempt(new_id(), charge_id=one.charge_id))


@contract
async def shipments_are_guarded_by_their_version(db: Database, _kit: Kit) -> None:
    """As attempts are."""
    one = Shipment(order_id=new_id(), status="SHIPPED", version=1, shipment_id="s", address="a")
    await stored(db, shipping, {}, one)
    with pytest.raises(RowsMissed):
        await stored(db, shipping, {}, one)
    later = Shipment(order_id=one.order_id, status="CANCELLED", version=2, shipment_id="s")
    await stored(db, shipping, {one.order_id: one}, later)
    with pytest.raises(RowsMissed):
        await stored(db, shipping, {one.order_id: one}, later)
    async with db.transaction() as tx:
        found = (await shipping.lock(tx, [one.order_id, new_id()]))[one.order_id]
    assert (found.status, found.version, found.address) == ("CANCELLED", 2, "a")


@contract
async def stock_moves_with_its_reservation(db: Database, kit: Kit) -> None:
    """Reservation, lines and quantities are stored together and locked together."""
    await kit.stock("b", 5)
    await kit.stock("a", 9)
    one = Reservation(order_id=new_id(), status="HELD", version=1, lines=(("a", 2), ("b", 1)))
    async with db.transaction() as tx:
        _, rows = await inventory.lock(tx, [], ["b", "a", "never"])
        assert rows == {"a": Stock("a", 9, 0, 0), "b": Stock("b", 5, 0, 0)}
        inventory.store(tx, {}, [one], [Stock("a", 7, 2, 0), Stock("b", 4, 1, 0)])
    released = Reservation(
        order_id=one.order_id, status="RELEASED", version=2, lines=one.lines, reason=""
    )
    async with db.transaction() as tx:
        known, rows = await inventory.lock(tx, [one.order_id, new_id()], [])
        assert known == {one.order_id: one}
        assert rows["a"] == Stock("a", 7, 2, 0)
        inventory.store(tx, known, [released], [Stock("a", 9, 0, 0), Stock("b", 5, 0, 0)])
    with pytest.raises(RowsMissed):
        async with db.transaction() as tx:
            inventory.store(tx, {}, [one], [])
    with pytest.raises(RowsMissed):
        async with db.transaction() as tx:
            inventory.store(tx, known, [released], [Stock("a", 1, 8, 0)])
    async with db.transaction() as tx:
        known, rows = await inventory.lock(tx, [one.order_id], [])
    assert known[one.order_id].status == "RELEASED"
    assert rows["a"] == Stock("a", 9, 0, 0)


@contract
async def stock_cannot_be_made_or_go_below_zero(db: Database, kit: Kit) -> None:
    """The constraints hold whatever was decided."""
    await kit.stock("a", 3)
    for row in (Stock("a", -1, 4, 0), Stock("a", 3, 1, 0)):
        with pytest.raises(psycopg2.errors.CheckViolation):
            async with db.transaction() as tx:
                inventory.store(tx, {}, [], [row])


def new_order(order_id: str) -> intake.NewOrder:
    item = Item(product_id="a", quantity=1, unit_price_minor=100)
    return intake.NewOrder(
        *(order_id, "customer", 100, "EUR", None, (item,)),
        *(cancel_event(order_id, "first"), "", b"", b"", NOW),
    )


def cancel_event(order_id: str, name: str) -> Any:
    cause = Cause(order_id, order_id)
    body = OrderCancel(order_id=order_id)
    identity = str(UUID(int=UUID(order_id).int ^ hash_of(name)))
    return emit(cause, ORDER_CANCEL, body, event_id=identity, now=NOW, source="/test")


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big")


@contract
async def an_order_is_taken_in_once(db: Database, _kit: Kit) -> None:
    """A batch whose COMMIT was not answered may be repeated: one order, one event."""
    order = new_order(new_id())
    for _ in range(2):
        async with db.transaction() as tx:
            intake.insert(tx, [order], NOW)
    rows = await outbox.read(db, range(outbox.SHARDS), 10)
    assert [(row.aggregate_id, row.attempts, row.created_at) for row in rows] == [
        (order.order_id, 0, NOW)
    ]
    assert rows[0].output == order.event
    assert (await outbox.lag(db))[:2] == (1, NOW)


@contract
async def a_cancellation_is_asked_for_once(db: Database, kit: Kit) -> None:
    """The order's status and whether it was asked for before; a saga has the last word."""
    one = new_id()
    async with db.transaction() as tx:
        assert await intake.lock_for_cancel(tx, one) is None
        intake.insert(tx, [new_order(one)], NOW)
    async with db.transaction() as tx:
        assert await intake.lock_for_cancel(tx, one) == ("PENDING", False)
        intake.request_cancel(tx, one, cancel_event(one, "cancel"), new_id(), "why", NOW)
    async with db.transaction() as tx:
        await sagas.write(tx, [saga(one, 0, 1)], NOW)
    async with db.transaction() as tx:
        assert await intake.lock_for_cancel(tx, one) == ("PAYMENT_PENDING", True)
    assert await kit.history(one) == ["cancel_requested", "V1"]


@contract
async def the_outbox_is_read_in_order_and_emptied_under_a_lease(db: Database, _kit: Kit) -> None:
    """Rows leave only for the owner of their shard under its epoch."""
    one = new_id()
    shard = outbox.shard_of(one)
    async with db.transaction() as tx:
        outbox.append(tx, [cancel_event(one, name) for name in ("1", "2", "3")], NOW)
    rows = await outbox.read(db, [shard], 10)
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert [row.output for row in rows] == [cancel_event(one, name) for name in ("1", "2", "3")]
    assert await outbox.read(db, [shard], 10, [one]) == []
    assert len(await outbox.read(db, [shard], 2)) == 2
    await leases.create(db)
    await leases.create(db)
    async with db.transaction() as tx:
        found, members = await leases.lock(tx, "relay", 60)
        assert ([lease.shard for lease in found], members) == (list(range(outbox.SHARDS)), 1)
        assert {(lease.owner, lease.epoch, lease.live) for lease in found} == {("", 0, False)}
        leases.hold(tx, "relay", {shard: 1}, 60)
    ids = [row.id for row in rows]
    for owner, epoch, count in (("relay", 0, 0), ("other", 1, 0), ("relay", 1, 2)):
        async with db.transaction() as tx:
            wanted = ids[:2] if count else ids
            assert await leases.delete_published(tx, owner, {shard: epoch}, wanted) == count
    async with db.transaction() as tx:
        outbox.count_refusal(tx, ids[2:])
    assert [(row.id, row.attempts) for row in await outbox.read(db, [shard], 10)] == [(ids[2], 1)]
    async with db.transaction() as tx:
        outbox.park(tx, ids[2], "refused")
    assert await outbox.read(db, [shard], 10) == []


@contract
async def leases_are_given_back(db: Database, _kit: Kit) -> None:
    """A released or left shard is free at once; a held one lives."""
    await leases.create(db)
    async with db.transaction() as tx:
        await leases.lock(tx, "relay", 60)
        leases.hold(tx, "relay", {0: 1, 1: 1, 2: 1}, 60)
    async with db.transaction() as tx:
        leases.release(tx, "relay", [0])
        leases.release(tx, "other", [1])
    async with db.transaction() as tx:
        found, members = await leases.lock(tx, "other", 60)
        assert [(lease.owner, lease.live) for lease in found[:3]] == [
            ("", False),
            ("relay", True),
            ("relay", True),
        ]
        assert members == 2
        leases.leave(tx, "relay")
    async with db.transaction() as tx:
        found, members = await leases.lock(tx, "other", 60)
    assert (members, any(lease.live for lease in found)) == (1, False)


@contract
async def a_dead_letter_is_indexed_once(db: Database, _kit: Kit) -> None:
    """Indexing again changes nothing."""
    letter = deadletters.DeadLetter(
        *("t.dlt", 0, 1, "t", 0, 1, "consumer", new_id(), "poison", "m"),
        *((), b"key", None, NOW, NOW),
    )
    async with db.transaction() as tx:
        assert await deadletters.record(tx, [letter]) == 1
    async with db.transaction() as tx:
        assert await deadletters.record(tx, [letter, letter._replace(offset=2)]) == 1


@contract
async def the_server_answers(db: Database, _kit: Kit) -> None:
    """A ping is a transaction of its own."""
    await db.wait_ready(5)


async def run(function: Any, db: Database, kit: Kit) -> None:
    """Run one contract to its end; a forgotten transaction would show in the next statement."""
    await function(db, kit)
    async with db.transaction() as tx:
        await _nothing(tx)


async def _nothing(tx: Transaction) -> None:
    assert await sagas.load(tx, []) == {}
