"""The outbox relay on real PostgreSQL and real Kafka: nothing lost, order kept, leases obeyed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from agents.relay import KafkaOutlet
from app import failpoints
from app.clock import SystemClock
from app.db import leases, outbox
from app.db.engine import Database, statement
from app.db.grants import dsn_of
from app.relay.ownership import Ownership
from app.relay.relay import Relay
from chaos.lab.broker import Broker
from tests.integration import relay_kit as kit
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

LEASES = statement("select shard, owner, epoch from ops.relay_lease where owner <> ''")
PARKED = statement("select aggregate_id, error from ops.outbox_parked")
WORKER = "from app.settings import load_settings; from app.worker import run; run(load_settings())"


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    config = kit.settings("127.0.0.1:1", database, db_pool_max=12)
    facade = await Database.open(config, application_name="relay-test")
    yield facade
    await facade.close()


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    for name in failpoints.installed():
        failpoints.remove(name)


async def rows_left(db: Database) -> int:
    return (await outbox.lag(db)).rows


async def until_empty(db: Database, timeout_s: float = 30) -> None:
    async def empty() -> bool:
        return await rows_left(db) == 0

    await eventually(empty, timeout_s=timeout_s, what="the outbox is empty")


async def owners(db: Database) -> dict[str, int]:
    count: dict[str, int] = {}
    for _, owner, _ in await db.fetch(LEASES):
        count[owner] = count.get(owner, 0) + 1
    return count


async def test_record_arrives_as_it_was_appended(db: Database, broker: Broker) -> None:
    """Key, value and headers on the topic are byte for byte those of the outbox row."""
    topic = await kit.make_topic(broker.bootstrap)
    sent = [kit.event(topic, str(uuid.uuid4()), b'{"n": %d}' % n) for n in range(30)]
    config = kit.settings(broker.bootstrap, "postgresql://x")
    async with kit.relaying(db, config):
        await kit.append(db, *sent)
        await until_empty(db)
    found = await kit.records(broker.bootstrap, topic)
    assert {(r.key, r.value, tuple(r.headers)) for r in found} == {
        (one.key, one.value, tuple(one.headers)) for one in sent
    }


async def test_two_relays_share_the_shards(db: Database, broker: Broker) -> None:
    """A second relay gets half of the shards, and all of them when the first one leaves."""
    first = kit.settings(broker.bootstrap, "postgresql://x", worker_id="relay-1")
    second = kit.settings(broker.bootstrap, "postgresql://x", worker_id="relay-2")

    async def shares(expected: dict[str, int]) -> None:
        async def reached() -> bool:
            return await owners(db) == expected

        await eventually(reached, timeout_s=10, what=f"shares {expected}")

    async with kit.relaying(db, second):
        async with kit.relaying(db, first):
            await shares({"relay-1": 4, "relay-2": 4})
        await shares({"relay-2": 8})
    await shares({})


async def test_expired_lease_is_taken_over_and_its_zombie_fenced(db: Database) -> None:
    """After the expiry another relay owns the shards; the old owner's delete changes nothing."""
    await leases.create(db)
    zombie, heir = Ownership(db, "zombie", 5), Ownership(db, "heir", 60)
    await zombie.renew()
    epochs = zombie.take()
    assert sorted(epochs) == list(range(8))
    await kit.append(db, kit.event("t", "a"))
    row = (await outbox.read(db, range(8), 10))[0]

    await eventually(lambda: _alone(heir), timeout_s=30, what="all shards are taken over")
    assert not zombie.is_valid()
    assert zombie.take() == {}
    async with db.transaction() as tx:
        assert await leases.delete_published(tx, "zombie", epochs, [row.id]) == 0
    async with db.transaction() as tx:
        assert await leases.delete_published(tx, "heir", heir.take(), [row.id]) == 1


async def _alone(owner: Ownership) -> bool:
    await owner.renew()
    return len(owner.take()) == 8


async def test_too_large_row_is_parked_and_holds_back_nobody(db: Database, broker: Broker) -> None:
    """A record Kafka can never take is parked at once; every other one arrives, in order."""
    topic = await kit.make_topic(broker.bootstrap, **{"max.message.bytes": "20000"})
    config = kit.settings(broker.bootstrap, "postgresql://x")
    poison = kit.event(topic, "poison", os.urandom(50_000))
    rows = [kit.event(topic, f"k{n % 7}", b"%d" % n) for n in range(60)]
    async with kit.relaying(db, config):
        await kit.append(db, *rows[:30], poison, *rows[30:])
        await until_empty(db)
    parked = await db.fetch(PARKED)
    assert [key for key, _ in parked] == ["poison"]
    assert "Large" in parked[0][1]
    found = kit.first_occurrences(await kit.records(broker.bootstrap, topic))
    assert "poison" not in found
    for key in {f"k{n % 7}" for n in range(60)}:
        assert found[key] == sorted(found[key], key=int)
    assert sum(map(len, found.values())) == 60


@pytest.mark.parametrize(
    "point", ["relay.before_publish", "relay.after_publish", "relay.after_delete"]
)
async def test_crash_at_each_failpoint_loses_nothing(
    db: Database, broker: Broker, point: str
) -> None:
    """A relay that dies at any point of a round is followed by one that publishes everything."""

    class Crash(Exception):
        pass

    async def crash(name: str) -> None:
        raise Crash(name)

    topic = await kit.make_topic(broker.bootstrap)
    config = kit.settings(broker.bootstrap, "postgresql://x")
    rows = [kit.event(topic, f"k{n % 5}", b"%d" % n) for n in range(40)]
    await kit.append(db, *rows)
    failpoints.install(point, crash)
    with pytest.raises(Crash):
        async with asyncio.timeout(20):
            await Relay(config, db, KafkaOutlet(config, "crash"), SystemClock()).run()
    assert await rows_left(db) == 40
    failpoints.remove(point)
    async with kit.relaying(db, config):
        await until_empty(db)
    found = kit.first_occurrences(await kit.records(broker.bootstrap, topic))
    assert sorted(int(v) for values in found.values() for v in values) == list(range(40))
    assert all(values == sorted(values, key=int) for values in found.values())


async def test_broker_down_and_up_drains_in_order(db: Database, public_dir: Path) -> None:
    """Rows written while the broker is dead arrive once it is back, each order in sequence."""
    broker = Broker(public_dir / "broker")
    broker.start()
    try:
        topic = await kit.make_topic(broker.bootstrap)
        config = kit.settings(broker.bootstrap, "postgresql://x")
        async with kit.relaying(db, config):
            await kit.append(db, *[kit.event(topic, f"k{n % 3}", b"%d" % n) for n in range(30)])
            await until_empty(db)
            broker.kill()
            for start in (30, 60):
                batch = [kit.event(topic, f"k{n % 3}", b"%d" % n) for n in range(start, start + 30)]
                await kit.append(db, *batch)
            assert await rows_left(db) == 60
            await asyncio.to_thread(broker.start)
            await until_empty(db, timeout_s=60)
        found = kit.first_occurrences(await kit.records(broker.bootstrap, topic))
        assert found == {f"k{k}": [b"%d" % n for n in range(k, 90, 3)] for k in range(3)}
    finally:
        broker.kill()


@pytest.mark.faults
@pytest.mark.timeout(180)
async def test_eight_writers_and_killed_relays_lose_nothing(
    db: Database, database: str, broker: Broker, public_dir: Path
) -> None:
    """8 writers with random delays, two real relay workers killed in turn: all rows, in order."""
    topic = await kit.make_topic(broker.bootstrap)
    orders = [str(uuid.uuid4()) for _ in range(48)]

    def start(name: str, number: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "SYMPHONY_ROLE": "relay",
            "SYMPHONY_WORKER_ID": name,
            "SYMPHONY_INCARNATION": str(number),
            "SYMPHONY_BROKER_BOOTSTRAP": broker.bootstrap,
            "SYMPHONY_POSTGRES_DSN": dsn_of(database, "relay"),
            "SYMPHONY_RELAY_LEASE_TTL_S": "2",
            "SYMPHONY_RELAY_LEASE_RENEW_S": "0.3",
            "SYMPHONY_DATA_DIR": str(public_dir / "data"),
        }
        log = (public_dir / f"{name}.log").open("ab")
        command = [sys.executable, "-c", WORKER]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    workers = {name: start(name, 0) for name in ("relay-1", "relay-2")}
    try:
        await eventually(lambda: _owned(db, 2), timeout_s=30, what="both relays own shards")
        stop = asyncio.Event()
        writing = [
            asyncio.create_task(kit.write_orders(db, topic, orders[n::8], stop, 0.05))
            for n in range(8)
        ]
        for number, name in enumerate(["relay-1", "relay-2", "relay-1"], 1):
            before = await owners(db)
            assert before.get(name)
            workers[name].send_signal(signal.SIGKILL)
            assert workers[name].wait() == -signal.SIGKILL
            await eventually(lambda: _owned(db, 1), timeout_s=15, what="the other takes over")
            workers[name] = start(name, number)
            await eventually(lambda: _owned(db, 2), timeout_s=30, what="the new one has its share")
        stop.set()
        written = await asyncio.gather(*writing)
        await until_empty(db)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()
    found = kit.first_occurrences(await kit.records(broker.bootstrap, topic))
    expected = {order: values for one in written for order, values in one.items() if values}
    assert found == expected
    assert sum(map(len, expected.values())) > 1000


async def _owned(db: Database, count: int) -> bool:
    live = statement(
        "select count(distinct owner) from ops.relay_lease where expires_at > clock_timestamp()"
    )
    total = statement("select count(*) from ops.relay_lease where expires_at > clock_timestamp()")
    return await db.fetch(live) == [(count,)] and await db.fetch(total) == [(8,)]
