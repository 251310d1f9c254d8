"""Redrive and purge on a real broker: acknowledged sends, named refusals, records really gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app import failpoints
from app.db import dead_letter_jobs as jobs
from app.db.dead_letter_jobs import Work
from app.db.engine import statement
from app.delivery.outlet import ProducerOutlet
from app.messages import Output
from app.redrive.sending import send
from chaos.lab.broker import Broker
from tests.integration.participants import opened
from tests.integration.redrive_kit import (
    ask,
    cancel,
    dead,
    ended,
    index,
    keep_saga,
    saga_of,
    settings,
    statuses,
    working,
)
from tests.integration.test_redrive import Killed

pytestmark = pytest.mark.integration

PARTITIONS = 2
VALUES = statement("select count(value) from ops.dead_letter")


async def make_topic(bootstrap: str, **config: str) -> str:
    """A topic of this test alone."""
    name = f"redrive.{uuid4().hex[:12]}.dlt"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=config)])
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def reader(bootstrap: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None,
                                auto_offset_reset="earliest")  # fmt: skip
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def offsets(bootstrap: str, topic: str) -> list[tuple[int, int]]:
    """First and end offset of each partition."""
    parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    async with reader(bootstrap) as consumer:
        first = await consumer.beginning_offsets(parts)
        end = await consumer.end_offsets(parts)
    return [(first[one], end[one]) for one in parts]


async def fill(outlet: ProducerOutlet, topic: str, each: int) -> None:
    """Write `each` records to every partition of `topic`."""
    outputs = {
        f"{part}-{number}": Output(topic, b"key", b"value", [], part)
        for part in range(PARTITIONS)
        for number in range(each)
    }
    assert await send(outlet, outputs) == {}


@asynccontextmanager
async def outlet_of(broker: Broker, dsn: str) -> AsyncIterator[ProducerOutlet]:
    made = ProducerOutlet(settings(dsn, broker_bootstrap=broker.bootstrap), "redrive-test")
    try:
        yield made
    finally:
        await made.close()


async def test_what_the_broker_refuses_is_named_and_the_rest_is_sent(
    broker: Broker, database: str
) -> None:
    """One record is too large for its topic; the others of its batch arrive, each at least once."""
    topic = await make_topic(broker.bootstrap, **{"max.message.bytes": "2000"})
    outputs = {str(n): Output(topic, b"k", str(n).encode(), [], 0) for n in range(8)}
    outputs["5"] = Output(topic, b"k", b"x" * 5000, [], 0)
    async with outlet_of(broker, database) as outlet:
        refused = await send(outlet, outputs)
    assert list(refused) == ["5"]
    assert "TooLarge" in refused["5"]
    async with reader(broker.bootstrap) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        seen: set[bytes] = set()
        end = (await offsets(broker.bootstrap, topic))[0][1]
        while await consumer.position(TopicPartition(topic, 0)) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                seen |= {record.value for record in records}
    assert seen == {str(n).encode() for n in range(8) if n != 5}


@pytest.mark.parametrize("dies", [False, True])
async def test_a_purge_deletes_records_of_all_partitions(
    broker: Broker, database: str, dies: bool
) -> None:
    """Below the offsets that were indexed, not beyond; also when its worker dies in between.

    What was deleted is gone: the successor finishes, whoever wants otherwise by then.
    """
    topic = await make_topic(broker.bootstrap)
    places = [(part, offset) for part in range(PARTITIONS) for offset in range(3)]
    letters: list[Any] = [
        dead(cancel(str(uuid4())), 0)._replace(topic=topic, partition=part, offset=offset)
        for part, offset in places
    ]

    async def die(_hit: Any) -> None:
        raise Killed

    async with opened(database, 4) as db, outlet_of(broker, database) as outlet:
        await fill(outlet, topic, 5)
        await index(db, letters)
        work = Work(topic=topic, ends=dict.fromkeys(range(PARTITIONS), 3))
        job_id = await ask(db, work, kind="purge", reason="old")
        changes = {"broker_bootstrap": broker.bootstrap, "dlq_batch_max": 2}
        if dies:
            failpoints.install("dlq.after_delete", die)
            try:
                with pytest.raises(Killed):
                    async with working(db, database, outlet, **changes) as party:
                        await party.tasks[0]
            finally:
                failpoints.remove("dlq.after_delete")
            async with db.transaction() as tx:
                assert not await jobs.request_cancel(tx, job_id, jobs.Request("bob"))
            await keep_saga(db, saga_of(letters[0].order_id))  # needed, too late
        async with working(db, database, outlet, "dlq-2", **changes):
            job = await ended(db, job_id)
        assert (job.status, job.done, job.tally) == ("DONE", 6, {"purged": 6})
        assert await statuses(db) == {"PURGED": 6}
        assert await offsets(broker.bootstrap, topic) == [(3, 5), (3, 5)]
        rows = await db.fetch(VALUES)
        assert rows == [(0,)]
