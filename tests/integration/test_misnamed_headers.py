"""Records no ordinary client can write, on a real broker and before a real worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import MessageSizeTooLargeError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient, NewTopic

from app.messages import Output
from app.topics import BATCH_BYTES_MAX, DEAD_LETTER_BATCH_BYTES_MAX, ORDER_CREATED, dlt_of
from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
from tests.conformance.stage import PARTITIONS, Stage
from tests.conformance.subjects import PROBE, query
from tests.delivery.raw_batches import GZIP, OVERHEAD, RawRecord, batch
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]

MISNAMED = b"\xff\xfename"


async def produce(bootstrap: str, topic: str, batches: Sequence[tuple[int, bytes]]) -> None:
    """Send each (partition, batch) as it is, in a produce request of its own."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        client.add_topic(topic)
        await client.force_metadata_update()
        for partition, raw in batches:
            node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, raw)])])
            answer = await client.send(node, request)
            ((_, ((_, code, *_),)),) = answer.topics
            if code:
                raise for_code(code)(topic)
    finally:
        await client.close()


def raw(output: Output, *more: tuple[bytes, bytes | None]) -> RawRecord:
    """A message as a raw record with further headers."""
    headers = [(name.encode(), value) for name, value in output.headers]
    return RawRecord(output.key, output.value, [*headers, *more])


def look_away(stage: Stage, topic: str) -> None:
    """Take a topic from the stage's reader: librdkafka cannot read such names either."""
    stage.topics._consumer.incremental_unassign(
        [ConfluentPartition(topic, n) for n in range(PARTITIONS)]
    )


@pytest.fixture(scope="module")
def broker(servers_dir: Path) -> Iterator[Broker]:
    """A broker of this module alone: it makes topics that others make too."""
    server = Broker(servers_dir / "broker-misnamed")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def stage(
    broker: Broker,
    postgres: Postgres,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """One worker of role probe; its topics have the limits that ours are created with."""
    name = "misnamed_headers"
    with closing(psycopg2.connect(postgres.dsn_of("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"create database {name} template {migrated_template}")
    query(postgres.dsn_of(name), PROBE.schema)
    unused: Any = SimpleNamespace(url="http://127.0.0.1:1")
    made = Stage(
        PROBE, broker.bootstrap, postgres.dsn_of(name), tmp_path_factory.mktemp("probe"), unused
    )
    try:
        made.limit_record_size(PROBE.input, BATCH_BYTES_MAX)
        made.limit_record_size(dlt_of(PROBE.input), DEAD_LETTER_BATCH_BYTES_MAX)
        # A broker that unpacks batches replaces such names: as on a topic that is not ours.
        made.configure(PROBE.input, "compression.type", "producer")
        look_away(made, PROBE.input)
        made.start()
        yield made
    finally:
        made.close()


async def test_misnamed_records_are_dead_lettered_and_neighbours_flow(stage: Stage) -> None:
    """Alone, first, last and in the middle of plain and gzip batches on every partition: each goes
    to the dead letters once with raw bytes, origin and reason; all others have their effect,
    and no worker ends."""
    keys = stage.keys(400)
    by_partition: dict[int, list[Output]] = defaultdict(list)
    for one in stage.messages(keys):
        assert one.partition is not None
        by_partition[one.partition].append(one)
    bad = raw(PROBE.message("0"), (MISNAMED, b"x"), (b"", None), (b"twice", b"1"), (b"twice", b"2"))
    batches = []
    for partition, outputs in by_partition.items():
        good = [raw(one) for one in outputs]
        for n in range(0, len(good), 4):
            a, *rest = good[n : n + 4]
            batches.append((partition, batch([bad, a, bad, *rest, bad], attributes=n % 8 and GZIP)))
            batches.append((partition, batch([bad])))
    count = sum(raw_batch.count(MISNAMED) for _, raw_batch in batches if raw_batch[22] & GZIP == 0)
    count += 3 * sum(bool(raw_batch[22] & GZIP) for _, raw_batch in batches)
    await produce(stage.bootstrap, PROBE.input, batches)
    pid = stage.fleet.pid("worker-1")
    stage.assert_once(keys)
    wait_until(lambda: len(stage.letters()) >= count, timeout_s=120, what=f"{count} dead letters")
    letters = stage.letters()
    assert len(letters) == count
    assert {(one.key, one.value) for one in letters} == {(bad.key, bad.value)}
    places = [
        (int(one.header("x-original-partition")), int(one.header("x-original-offset")))
        for one in letters
    ]
    assert len(set(places)) == count
    for partition in range(PARTITIONS):
        mine = [place for place in places if place[0] == partition]
        assert mine == sorted(mine), "in order"
    for one in letters:
        names = [name for name, _ in one.headers]
        assert names[9:13] == ["\\xff\\xfename", "", "twice", "twice"]
        assert one.header("x-error-reason") == "bad_header"
        assert one.header("x-original-topic") == PROBE.input
        assert int(one.header("x-original-partition")) == one.partition
    assert not stage.ends(), "no worker ended"
    assert stage.fleet.pid("worker-1") == pid


async def test_largest_records_have_room_among_the_dead_letters(stage: Stage) -> None:
    """Records as large as their topic takes, with as many names to escape as are kept: their dead
    letters are accepted, and the records behind them flow."""
    already = len(stage.letters())
    names = [(b"\xff" * 256, b"") for _ in range(64)]
    room = BATCH_BYTES_MAX - OVERHEAD
    largest = [
        RawRecord(b"k", b"v" * room),
        RawRecord(b"k" * room, b"v"),
        RawRecord(b"k", b"v" * (room - 64 * 260), names),
        RawRecord(b"k", b"v", [(b"\xff" * room, b"")]),
        RawRecord(b"k", b"v", [(b"n", b"c" * room), *[(b"n", b"")] * 5]),
    ]
    await produce(
        stage.bootstrap, PROBE.input, [(n % 2, batch([one])) for n, one in enumerate(largest)]
    )
    keys = stage.keys(40)
    stage.topics.send(stage.messages(keys))
    stage.assert_once(keys)
    letters = stage.letters()[already:]
    assert sorted(len(one.value or b"") for one in letters) == sorted(
        len(one.value or b"") for one in largest
    )
    assert max(sum(len(name) for name, _ in one.headers) for one in letters) > 60_000
    assert not stage.ends()


async def test_misnamed_changelog_record_is_recovered_and_logged(stage: Stage) -> None:
    """A table recovers from a changelog with such a record in it; the worker's log names it."""
    changelog = stage._changelogs["probe"]
    look_away(stage, changelog)
    stray = RawRecord(b"stray", b"1:1", [(MISNAMED, b"x")])
    await produce(stage.bootstrap, changelog, [(n, batch([stray])) for n in range(PARTITIONS)])
    stage.heal()
    keys = stage.keys(40)
    stage.topics.send(stage.messages(keys))
    stage.wait_effects(keys)
    stage.assert_outputs(keys)
    log = (stage._directory / "worker-1.log").read_text().splitlines()
    assert any("fetch.misnamed_header" in line and changelog in line for line in log)


@pytest.fixture
def declared_topic(broker: Broker) -> Iterator[str]:
    """A topic with the configuration of a declared one."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    name = f"declared-{uuid4().hex[:8]}"
    admin.create_topics([NewTopic(name, 1, 1, config=ORDER_CREATED.config())])[name].result(20)
    yield name
    admin.delete_topics([name])[name].result(20)


@pytest.mark.parametrize("codec", ["lz4", "snappy", "zstd", "gzip"])
async def test_compressed_records_arrive_unpacked(
    broker: Broker, declared_topic: str, codec: str
) -> None:
    """A producer may compress as it likes: our consumers, which lack most codecs, read it."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "compression.type": codec})
    producer.produce(declared_topic, b"a" * 1000)
    assert producer.flush(20) == 0
    consumer = AIOKafkaConsumer(
        declared_topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        record = await consumer.getone()
    finally:
        await consumer.stop()
    assert record.value == b"a" * 1000


async def test_small_batch_cannot_hold_a_record_that_is_too_large(
    broker: Broker, declared_topic: str
) -> None:
    """The broker measures what it unpacked, so no record outgrows its dead-letter topic."""
    bomb = batch([RawRecord(b"k", b"v" * (BATCH_BYTES_MAX + 1))], attributes=GZIP)
    assert len(bomb) < 10_000
    with pytest.raises(MessageSizeTooLargeError):
        await produce(broker.bootstrap, declared_topic, [(0, bomb)])
