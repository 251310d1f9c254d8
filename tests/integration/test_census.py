"""The census on a real PostgreSQL and a real broker: right figures, and none without an answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.census import service
from app.census.kafka import KafkaCensus
from app.census.service import KAFKA, POSTGRES, CensusService
from app.clock import SystemClock
from app.db.engine import Database
from app.db.grants import dsn_of
from app.observability import metrics
from app.observability.families import REGISTRY
from app.settings import Settings
from chaos.lab.broker import Broker
from chaos.lab.process import free_port

pytestmark = pytest.mark.integration

SEED = """
insert into orders.saga
       (order_id, partition, version, state, terminal, body, next_due, created_at, updated_at)
select gen_random_uuid(), 0, 1, state, state = 'COMPLETED', '', now() - make_interval(secs => late),
       now() - make_interval(secs => age), now()
  from (values ('PAYMENT_PENDING', 10, 5), ('PAYMENT_PENDING', 100, 60), ('PARKED', 700, 900),
               ('COMPLETED', 9999, 9999)) as saga(state, age, late);
insert into ops.dead_letter
       (id, topic, partition, "offset", origin_topic, origin_partition, origin_offset, consumer,
        error_class, error_message, fingerprint, headers, status, first_failed_at, at)
select gen_random_uuid(), topic, 0, number, 'x', 0, 0, 'payment', 'e', 'm', 'f', '[]', status,
       now(), now() - make_interval(secs => age)
  from (values ('payment.requested.dlt', 1, 'OPEN', 40), ('payment.requested.dlt', 2, 'OPEN', 20),
               ('shipping.requested.dlt', 3, 'OPEN', 30),
               ('shipping.requested.dlt', 4, 'REDRIVEN', 9999))
       as letter(topic, number, status, age);
insert into ops.outbox
       (event_id, aggregate_type, aggregate_id, topic, ce_id, ce_source, ce_type, ce_time,
        ce_correlationid, ce_causationid, traceparent, payload, shard, created_at)
select gen_random_uuid(), 'order', 'a', 'order.created', '', '', '', '', '', '', '', '', 0,
       now() - make_interval(secs => age)
  from (values (50), (3)) as waiting(age);
insert into inventory.stock (sku, available, consumed, restocked)
values ('never there', 0, 0, 0), ('scarce', 9, 0, 9), ('sold out', 0, 10, 10), ('nearly', 9, 1, 10),
       ('as it came', 10, 0, 10), ('rare', 49, 0, 49), ('low', 10, 40, 50), ('lower', 49, 1, 50),
       ('lowest', 9, 41, 50), ('enough', 50, 0, 50);
"""


def shown(name: str, **labels: str) -> float | None:
    """A series of the registry, None when it is absent."""
    return REGISTRY.get_sample_value(name, labels)


def settings(**changes: Any) -> Settings:
    """A worker of role slo whose group names are this test's."""
    values = {"role": "slo", "namespace": f"t{uuid.uuid4().hex[:8]}", **changes}
    return Settings(**values)


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    service.clear_kafka()
    service.clear_postgres()
    metrics.CENSUS_AGE.forget()


async def taker(dsn: str) -> CensusService:
    """A census of PostgreSQL under the role's own login."""
    own = settings(postgres_dsn=dsn, broker_bootstrap=f"127.0.0.1:{free_port()}")
    db = await Database.open(own, application_name="census-test")
    app: Any = SimpleNamespace(settings=own, clock=SystemClock(), db=db)
    return CensusService(app)


async def test_the_books_are_counted_as_they_stand(database: str) -> None:
    """Sagas, letters, outbox, stock and connections of a seeded database, read by role slo's login;
    a census that never got an answer leaves nothing of it."""
    with closing(psycopg2.connect(database)) as other:
        with other.cursor() as cursor:
            cursor.execute(SEED)
        other.commit()
        with other.cursor() as cursor:
            cursor.execute("select 1")  # and stays in its transaction
        census = await taker(dsn_of(database, "slo"))
        await census.once(POSTGRES, census.of_postgres)
        assert shown("symphony_saga_active", state="PAYMENT_PENDING") == 2
        assert shown("symphony_saga_active", state="PARKED") == 1
        assert shown("symphony_saga_active", state="REVIEW") == 0
        assert shown("symphony_saga_active", state="COMPLETED") is None
        oldest_s = shown("symphony_saga_oldest_age_seconds", state="PAYMENT_PENDING")
        assert oldest_s == pytest.approx(100, abs=30)
        assert shown("symphony_saga_oldest_age_seconds", state="REVIEW") is None
        assert shown("symphony_saga_stuck") == 1, "PARKED waits for a person"
        assert shown("symphony_dlq_depth", topic="payment.requested.dlt") == 2
        assert shown("symphony_dlq_depth", topic="shipping.requested.dlt") == 1
        assert shown("symphony_dlq_depth", topic="order.created.dlt") == 0
        assert shown("symphony_dlq_oldest_age_seconds") == pytest.approx(40, abs=30)
        assert shown("symphony_outbox_pending_rows") == 2
        assert shown("symphony_outbox_oldest_age_seconds") == pytest.approx(50, abs=30)
        assert shown("symphony_outbox_parked_rows") == 0
        assert shown("symphony_stock_low_products", level="critical") == 3
        assert shown("symphony_stock_low_products", level="low") == 2
        assert shown("symphony_postgres_connections", state="idle_in_transaction") == 1
        assert (shown("symphony_postgres_connections", state="active") or 0) >= 1
        assert (shown("symphony_postgres_connections_max") or 0) > 1
        assert (shown("symphony_postgres_database_bytes") or 0) > 1_000_000
        since_s = shown("symphony_postgres_transaction_oldest_seconds")
        assert since_s is not None
        assert 0 < since_s < 60
        assert shown("symphony_census_age_seconds", source=POSTGRES) is not None
        assert shown("symphony_census_age_seconds", source=KAFKA) is None
    failed = shown("symphony_census_rounds_total", source=POSTGRES, outcome="failed") or 0
    away = await taker(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    await away.once(POSTGRES, away.of_postgres)
    for family in service._OF_POSTGRES:
        assert list(family.samples()) == [], f"{family.name} is frozen"
    assert shown("symphony_census_rounds_total", source=POSTGRES, outcome="failed") == failed + 1
    age_s = shown("symphony_census_age_seconds", source=POSTGRES)
    assert age_s is not None, "how old the last answer is, is still told"


@pytest.fixture
async def topic(broker: Broker) -> str:
    """A topic of this test with two partitions."""
    name = f"census.{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1)])
    finally:
        await admin.close()
    return name


@pytest.fixture
async def producer(broker: Broker) -> AsyncIterator[AIOKafkaProducer]:
    """Sends records as old as they are said to be."""
    sender = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await sender.start()
    yield sender
    await sender.stop()


async def send(producer: AIOKafkaProducer, topic: str, partition: int, *ages_s: float) -> None:
    """One record for each age."""
    for age_s in ages_s:
        at_ms = int((time.time() - age_s) * 1000)
        await producer.send_and_wait(topic, b"x", partition=partition, timestamp_ms=at_ms)


async def commit(broker: Broker, group: str, topic: str, offsets: dict[int, int]) -> None:
    """Commit for a group that has no member."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, group_id=group, enable_auto_commit=False
    )
    await consumer.start()
    tps = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
    consumer.assign(list(tps))
    await consumer.commit(tps)
    await consumer.stop()


async def test_lag_is_told_of_a_group_without_members(
    broker: Broker, topic: str, producer: AIOKafkaProducer
) -> None:
    """Records and the age of the oldest, from the committed offsets; an optional role that never
    ran is not missed; a group that catches up has no lag."""
    own = settings(broker_bootstrap=broker.bootstrap, census_timeout_s=30)
    topics = {"payment": (topic,), "shipping": (topic, "census.no-such-topic"),
              "payment-canary": (topic,)}  # fmt: skip
    await send(producer, topic, 0, 500, 300, 200, 100)
    await send(producer, topic, 1, 50)
    await commit(broker, f"{own.namespace}-payment", topic, {0: 2, 1: 1})
    census = KafkaCensus(own, time.time, topics)
    try:
        await census.ask()  # two groups at two places of one partition: one round for each
        books = await census.ask()
        assert books.members == {"payment": 0, "shipping": 0}
        lags = {(lag.role, lag.topic): lag for lag in books.lags}
        assert set(lags) == {("payment", topic), ("shipping", topic)}
        assert lags["payment", topic].records == 2
        assert lags["payment", topic].age_s == pytest.approx(200, abs=60)
        assert lags["shipping", topic].records == 5, "it never committed: all of it is lag"
        assert lags["shipping", topic].age_s == pytest.approx(500, abs=60)
        await commit(broker, f"{own.namespace}-payment", topic, {0: 4})
        service.show_kafka(await census.ask())
        assert shown("symphony_consumer_lag_records", role="payment", topic=topic) == 0
        assert shown("symphony_consumer_lag_seconds", role="payment", topic=topic) == 0
        await send(producer, topic, 0, 0)
        [lag] = [one for one in (await census.ask()).lags if one.role == "payment"]
        assert lag.records == 1
        assert lag.age_s is not None, "what came between two rounds needs no look"
        assert lag.age_s < 60
        assert len(census._read) == 2, "only what shipping lacks was looked at"
    finally:
        await census.close()


async def test_a_broker_that_is_away_leaves_no_lag_behind() -> None:
    """Absent when there never was an answer, counted, and tried again."""
    metrics.CONSUMER_LAG.child("payment", "payment.requested").set(7)
    metrics.CONSUMER_MEMBERS.child("payment").set(1)
    census = await taker(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    before = shown("symphony_census_rounds_total", source=KAFKA, outcome="failed") or 0
    await census.once(KAFKA, census.of_kafka)
    await census.once(KAFKA, census.of_kafka)
    for family in service._OF_KAFKA:
        assert list(family.samples()) == [], f"{family.name} is frozen"
    assert shown("symphony_census_rounds_total", source=KAFKA, outcome="failed") == before + 2
