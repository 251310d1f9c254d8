"""What the relay's tests share: topics, rows, writers with delays, and what Kafka then holds."""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents.relay import KafkaOutlet
from app.clock import SystemClock
from app.db import outbox
from app.db.engine import Database, statement
from app.messages import Output
from app.relay.relay import Relay
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ORDER = statement(
    "insert into orders.orders"
    " (order_id, customer_id, total_minor, currency, created_at)"
    " values (:id, 'c', 1, 'EUR', now()) on conflict do nothing"
)
LOCK = statement("select 1 from orders.orders where order_id = :id for no key update")


def settings(bootstrap: str, dsn: str, **changes: Any) -> Settings:
    """A relay's settings with short leases; `worker_id` and others by `changes`."""
    values = {
        "role": "relay",
        "broker_bootstrap": bootstrap,
        "postgres_dsn": dsn,
        "relay_lease_ttl_s": 2,
        "relay_lease_renew_s": 0.3,
        **changes,
    }
    return Settings(**values)


async def make_topic(bootstrap: str, partitions: int = 4, **config: str) -> str:
    """Create a topic of its own and return its name."""
    name = f"relay.{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topic = NewTopic(name, partitions, 1, topic_configs=config)
        reply = await admin.create_topics([topic])
        assert [error for _, error, *_ in reply.topic_errors] == [0], reply
    finally:
        await admin.close()
    return name


def event(topic: str, key: str, value: bytes = b"{}") -> Output:
    """A record as `emit` builds them."""
    event_id = str(uuid.uuid4())
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": "/test",
        "ce_type": "test.v1",
        "ce_time": "2026-01-02T03:04:05Z",
        "ce_correlationid": event_id,
        "ce_causationid": event_id,
        "content-type": "application/json",
        "traceparent": "00-1-1-00",
    }
    return Output(topic, key.encode(), value, [(n, v.encode()) for n, v in headers.items()])


async def append(db: Database, *outputs: Output) -> None:
    """Commit rows in one transaction."""
    async with db.transaction() as tx:
        outbox.append(tx, outputs, datetime.now(UTC))


async def write_orders(
    db: Database, topic: str, orders: Sequence[str], stop: asyncio.Event, delay_s: float
) -> dict[str, list[bytes]]:
    """Write numbered events of random orders until `stop`, each under its order's lock, with
    random delays before the commit; return what was committed for each order.
    """
    written: dict[str, list[bytes]] = {order: [] for order in orders}
    while not stop.is_set():
        order = random.choice(orders)
        value = b"%d" % len(written[order])
        async with db.transaction() as tx:
            await tx.execute(ORDER, id=order)
            await tx.fetch(LOCK, id=order)
            outbox.append(tx, [event(topic, order, value)], datetime.now(UTC))
            await asyncio.sleep(random.random() * delay_s)
        written[order].append(value)
    return written


async def records(bootstrap: str, topic: str) -> list[Any]:
    """All records of a topic, each partition in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        numbers = await consumer._client.fetch_all_metadata()
        tps = [TopicPartition(topic, p) for p in numbers.partitions_for_topic(topic)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        found: list[Any] = []
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                found += batch
        return found
    finally:
        await consumer.stop()


def first_occurrences(found: Sequence[Any]) -> dict[str, list[bytes]]:
    """Values by key in the order in which each was first seen; repeats (same ce_id) dropped."""
    seen: set[bytes] = set()
    by_key: dict[str, list[bytes]] = {}
    for record in found:
        event_id = dict(record.headers)["ce_id"]
        if event_id not in seen:
            seen.add(event_id)
            by_key.setdefault(record.key.decode(), []).append(record.value)
    return by_key


@asynccontextmanager
async def relaying(db: Database, config: Settings) -> AsyncIterator[Relay]:
    """A relay running in this process; stopped in good order, its failure raised."""
    relay = Relay(config, db, KafkaOutlet(config, config.worker_id), SystemClock())
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await task
