"""Roles payment and dlq as worker processes on real Kafka, PostgreSQL and the real gateway.

The story of an outage: the gateway fails, commands climb the retry tier, are dead-lettered and
parked; the gateway recovers, an operator sends them back, and each order is charged once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import msgspec
import pytest
from aiokafka.structs import ConsumerRecord
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from app import ids
from app.delivery.exits import EXIT_REWIND
from app.errors import GatewayUnavailable
from app.messages import Cause, Decoded, Output, PaymentRequested, deadletter, decode, emit
from app.topics import CATALOGUE, PAYMENT_REQUESTED, changelog_of
from chaos.lab.broker import Broker
from chaos.lab.process import free_port
from tests.integration.gateway_process import GatewayProcess
from tests.integration.participants import order, rows
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


pytestmark = [pytest.mark.integration, pytest.mark.faults]

PARTITIONS = 4
WORKER = "from app import settings, worker; worker.run(settings.load_settings())"
ROOT = Path(__file__).parents[2]


class Topics:
    """An independent reader and writer of the topics of this test's own broker namespace."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False}
        )
        self._producer = Producer({"bootstrap.servers": bootstrap})
        watched = ("payment.result", "payment.requested.dlt")
        self._consumer.assign(
            [TopicPartition(name, n, 0) for name in watched for n in range(PARTITIONS)]
        )
        self.results: dict[str, list[Decoded]] = defaultdict(list)
        self.letters: list[ConsumerRecord] = []

    def send(self, output: Output) -> None:
        self._producer.produce(
            output.topic, output.value, output.key, headers=list(output.headers),
            **({} if output.partition is None else {"partition": output.partition}),
        )  # fmt: skip

    def flush(self) -> None:
        assert self._producer.flush(60) == 0

    def read(self) -> None:
        for message in self._consumer.consume(500, timeout=0.2):
            if message.error() is not None:
                continue  # passing: what is missing is waited for
            headers: Any = message.headers() or []
            if message.topic() == "payment.result":
                said = decode("payment.result", headers, message.key(), message.value())
                self.results[said.body.order_id].append(said)
            else:
                self.letters.append(
                    ConsumerRecord(
                        message.topic(), message.partition(), message.offset(),
                        message.timestamp()[1], 0, message.key(), message.value(), None, 0, 0,
                        tuple(headers),
                    )
                )  # fmt: skip

    def outcomes(self, order_id: str) -> list[str]:
        return [said.body.outcome for said in self.results[order_id]]

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture(scope="module")
def broker(servers_dir: Path) -> Iterator[Broker]:
    """A broker of this module alone: it makes topics that others make too."""
    server = Broker(servers_dir / "broker-payment")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def namespace() -> str:
    """Consumer groups of this test alone; the topics are deleted and made again."""
    return f"test-{uuid4().hex[:8]}"


@pytest.fixture
def topics(broker: Broker, namespace: str) -> Iterator[Topics]:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    changelog = changelog_of(namespace, "payment", "payment_idempotency").name
    wanted = [NewTopic(name, PARTITIONS, 1) for name in (*CATALOGUE, changelog)]
    for future in admin.create_topics(wanted).values():
        future.result(20)
    with closing(Topics(broker.bootstrap)) as made:
        yield made
    for future in admin.delete_topics([topic.topic for topic in wanted]).values():
        future.result(20)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "ledger.jsonl").start()
    yield process
    process.stop()


class Workers:
    """The worker processes of one test; each start is a new incarnation."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self._directory, self._settings = directory, settings
        self._incarnations = 0
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str, **changes: str) -> None:
        self._incarnations += 1
        incarnation = f"i{self._incarnations}"
        own = {"ROLE": role, "WORKER_ID": f"{role}-1", "INCARNATION": incarnation}
        settings = {**self._settings, **own, **changes, "DATA_DIR": str(self._directory / "data")}
        variables = {f"SYMPHONY_{name}": value for name, value in settings.items()}
        with (self._directory / f"{role}-{incarnation}.log").open("wb") as log:
            self.running[role] = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                env={**os.environ, **variables},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def kill(self, role: str) -> None:
        process = self.running.pop(role)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL

    def stop(self) -> dict[str, int]:
        for process in self.running.values():
            process.terminate()
        return {role: process.wait(60) for role, process in self.running.items()}


@pytest.fixture
def workers(
    broker: Broker,
    database: str,
    gateway: GatewayProcess,
    topics: Topics,
    namespace: str,
    tmp_path: Path,
) -> Iterator[Workers]:
    made = Workers(
        tmp_path,
        NAMESPACE=namespace,
        LAB="true",
        BROKER_BOOTSTRAP=broker.bootstrap,
        POSTGRES_DSN=database,
        GATEWAY_URL=gateway.url,
        TOPIC_PARTITIONS=str(PARTITIONS),
        SESSION_TIMEOUT_S="6",
        RETRY_TIERS_S="1",
        BREAKER_OPEN_S="1",
    )
    made.start("payment")
    made.start("dlq")
    yield made
    assert made.stop() == {"payment": 0, "dlq": 0}
    assert not any(b"Unclosed" in log.read_bytes() for log in tmp_path.glob("payment*.log"))


def request_payment(topics: Topics, orders: Sequence[str], partition: int | None = None) -> None:
    """Send a command each; to the partition of its key where none is named."""
    for one in orders:
        now = datetime.now(UTC)
        body = PaymentRequested(
            order_id=one, amount_minor=1200, currency="EUR", not_after=now + timedelta(seconds=600)
        )
        identity = ids.command_id(one, "payment", "forward")
        cause = Cause(one, one)
        command = emit(cause, PAYMENT_REQUESTED, body, event_id=identity, now=now, source="test")
        topics.send(msgspec.structs.replace(command, partition=partition))
    topics.flush()


def charges_made(gateway: GatewayProcess, count: int) -> None:
    """Return as soon as the gateway's ledger shows `count` charges."""

    def enough() -> bool:
        return len(gateway.lines(outcome="ok")) >= count

    wait_until(enough, timeout_s=60, what=f"{count} charges", every_s=0.005)


def test_outage_of_the_gateway_from_first_error_to_redrive(
    topics: Topics,
    gateway: GatewayProcess,
    workers: Workers,
    database: str,
) -> None:
    """ERROR: every command is retried with notice, then dead-lettered and parked; after SUCCESS a
    redrive charges every order exactly once."""
    gateway.behave(mode="ERROR")
    orders = [order() for _ in range(40)]
    request_payment(topics, orders)

    def all_parked() -> bool:
        topics.read()
        return all(topics.outcomes(one)[-1:] == ["PARKED"] for one in orders)

    wait_until(all_parked, timeout_s=90, what="every order parked")
    for one in orders:
        assert topics.outcomes(one) == ["RETRYING"] * 3 + ["PARKED"]
        assert len({said.event_id for said in topics.results[one]}) == 4
        assert all(said.body.due_at is not None for said in topics.results[one][:3])

    def all_dead_letters() -> bool:
        topics.read()
        return len(topics.letters) == len(orders)

    wait_until(all_dead_letters, timeout_s=20, what="every dead letter")
    wait_until(
        lambda: rows(database, "select count(*) from ops.dead_letter") == [(len(orders),)],
        timeout_s=20,
        what="the index of dead letters",
    )
    assert gateway.lines(outcome="ok") == []

    gateway.behave(mode="SUCCESS")
    for letter in topics.letters:
        again = datetime.now(UTC) + timedelta(seconds=600)
        topics.send(deadletter.redrive(letter, not_after=again))
    topics.flush()

    def all_charged() -> bool:
        topics.read()
        return all(topics.outcomes(one)[-1:] == ["OK"] for one in orders)

    wait_until(all_charged, timeout_s=60, what="every order charged")
    charged = [line["order_id"] for line in gateway.lines(op="charge", outcome="ok")]
    assert sorted(charged) == sorted(orders)
    assert rows(database, "select distinct status from payments.payment_attempt") == [("CHARGED",)]
    assert all(process.poll() is None for process in workers.running.values())


def test_worker_killed_between_charges_and_replies(
    topics: Topics, gateway: GatewayProcess, workers: Workers, database: str
) -> None:
    """kill -9 of the payment worker with calls in flight and replies being lost: its successor
    calls again with the same keys, every order is charged exactly once."""
    gateway.behave(latency_ms_min=20, latency_ms_max=60, reply_lost_rate=0.2)
    orders = [order() for _ in range(400)]
    request_payment(topics, orders)
    for wanted in (40, 200):
        charges_made(gateway, wanted)
        workers.kill("payment")
        workers.start("payment")
    intents = rows(database, "select count(*) from ops.inbox where status = 1")
    assert intents > [(0,)], "the kill came when no call was in flight"

    def all_charged() -> bool:
        topics.read()
        return all(topics.outcomes(one)[-1:] == ["OK"] for one in orders)

    wait_until(all_charged, timeout_s=90, what="every order charged")
    charged = [line["order_id"] for line in gateway.lines(op="charge", outcome="ok")]
    assert sorted(charged) == sorted(orders)
    assert gateway.lines(outcome="replayed"), "no key was used twice: nothing was proven"
    sql = "select status, count(*) from payments.payment_attempt group by status"
    assert rows(database, sql) == [("CHARGED", len(orders))]


def test_a_flood_stops_the_consumer_until_it_is_released(
    topics: Topics, gateway: GatewayProcess, workers: Workers, database: str
) -> None:
    """Past the limit no record is dead-lettered: the consumer stands, says why, stands again after
    a kill, and goes on where it stood when an operator releases it."""
    port = free_port()
    limits = {"DEAD_LETTERS_MAX": "5", "HEALTH_PORT": str(port)}
    workers.kill("payment")
    workers.start("payment", **limits)
    poison(topics, 3)
    letters(topics, 3)
    poison(topics, 20)
    good = order()
    request_payment(topics, [good], POISONED)
    wait_until(lambda: stopped(port), timeout_s=90, what="the flood stops the consumer")
    wait_until(
        lambda: (
            rows(database, "select consumer, released_at from ops.flood") == [("payment", None)]
        ),
        timeout_s=30,
        what="the row that outlives the worker",
    )
    workers.kill("payment")
    workers.start("payment", **limits)
    wait_until(lambda: stopped(port), timeout_s=90, what="its successor stands at once")
    topics.read()
    assert 3 <= len({_origin(one) for one in topics.letters}) <= 5, "none beyond the limit"
    assert gateway.lines(op="charge") == []
    rows(database, "update ops.flood set released_at = now(), released_by = 'ada' returning 1")
    letters(topics, 23)
    charges_made(gateway, 1)
    assert [line["order_id"] for line in gateway.lines(op="charge")] == [good]


POISONED = 0
"""The partition of poison; what is to wait behind it is sent there, too."""


def poison(topics: Topics, count: int) -> None:
    """Records that nobody can read, one by one on one partition."""
    for _ in range(count):
        topics.send(Output(PAYMENT_REQUESTED.name, b"junk", b"junk", [], POISONED))
    topics.flush()


def letters(topics: Topics, count: int) -> None:
    """Wait for dead letters of `count` different records; a kill may repeat one."""

    def enough() -> bool:
        topics.read()
        return len({_origin(one) for one in topics.letters}) == count

    wait_until(enough, timeout_s=90, what=f"{count} dead letters")


def _origin(letter: ConsumerRecord) -> tuple[int, int]:
    failure = deadletter.read_failure(letter.headers)
    return failure.original_partition, failure.original_offset


def stopped(port: int) -> bool:
    """Whether the worker on `port` holds its batch for a flood and says what to do."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
            (said,) = json.loads(answer.read())["consumers"]
        if (said["state"], said["hold_reason"]) != ("held", "flood"):
            return False
        urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10).close()
    except HTTPError as error:
        return b"symphony dlq release payment" in error.read()
    except (OSError, KeyError, ValueError):
        return False
    return False


def test_a_rewound_worker_reads_again_and_charges_nobody_twice(
    topics: Topics, gateway: GatewayProcess, workers: Workers, database: str
) -> None:
    """Asked for a rewind the worker stops by itself in good order; its next incarnation sets the
    offsets by time before it joins, answers everything again and changes nothing."""
    early, late = [order() for _ in range(20)], [order() for _ in range(30)]
    request_payment(topics, early)
    charges_made(gateway, len(early))
    (since,) = rows(database, "select now()")[0]
    request_payment(topics, late)
    charges_made(gateway, len(early + late))
    answered(topics, dict.fromkeys([*early, *late], 1))
    rows(
        database,
        "insert into ops.rewind (id, role, since, requested_by, created_at)"
        f" values ('{uuid4()}', 'payment', '{since.isoformat()}', 'ada', now()) returning 1",
    )
    assert workers.running["payment"].wait(90) == EXIT_REWIND
    assert rows(database, "select status from ops.rewind") == [("QUEUED",)]
    reason = "select reason, counted from ops.worker_run where role = 'payment'"
    assert rows(database, reason) == [("rewind", False)]
    workers.start("payment")
    answered(topics, {**dict.fromkeys(early, 1), **dict.fromkeys(late, 2)})
    ((status, moved),) = rows(database, "select status, positions from ops.rewind")
    assert status == "DONE"
    assert sum(before - after for _, _, before, after in moved) == len(late)
    charged = [line["order_id"] for line in gateway.lines(op="charge")]
    assert sorted(charged) == sorted(early + late)


def answered(topics: Topics, times: dict[str, int]) -> None:
    """Wait until each order's charge was answered so often, always in the same words."""

    def enough() -> bool:
        topics.read()
        return {one: len(topics.results[one]) for one in times} == times

    wait_until(enough, timeout_s=90, what="every charge answered as often as it was read")
    assert all(len({said.event_id for said in topics.results[one]}) == 1 for one in times)


TIER_OF = {"retry.1s": 1.0, "retry.5s": 5.0, "retry.30s": 9.0}
"""When the waiting records of each tier become due, seconds from now; a tier's own delay bounds
how long a record waits, not how long it must."""


def test_waiting_records_survive_the_kill_of_their_worker(
    broker: Broker, topics: Topics, gateway: GatewayProcess, workers: Workers
) -> None:
    """Three tiers hold records of mixed due times. The short one is served while the long ones
    wait; kill -9 loses and hurries none: each goes back once, when it is due or later."""
    sent_at = datetime.now(UTC)
    due = {
        order(): (tier, sent_at + timedelta(seconds=delay_s + late / 4))
        for tier, delay_s in TIER_OF.items()
        for late in (3, 0, 2, 1, 3)
    }
    for order_id, (tier, due_at) in due.items():
        topics.send(waiting_charge(order_id, tier, due_at))
    topics.flush()
    back = Arrivals(broker.bootstrap, "payment.requested")
    with closing(back):
        short = [one for one, (tier, _) in due.items() if tier == "retry.1s"]
        wait_until(lambda: back.read() >= set(short), timeout_s=60, what="the short tier is served")
        long = [one for one, (tier, _) in due.items() if tier != "retry.1s"]
        held = [one for one in long if one not in back.at]
        assert held, "too slow: nothing waits any more when the worker is killed"
        workers.kill("dlq")
        workers.start("dlq")
        wait_until(lambda: back.read() >= set(due), timeout_s=90, what="every record is back")
        assert {one: len(back.at[one]) for one in held} == dict.fromkeys(held, 1)
        early = {one: back.at[one] for one, (_, at) in due.items() if min(back.at[one]) < at}
        assert early == {}
        charges_made(gateway, len(due))
        back.read()
    charged = [line["order_id"] for line in gateway.lines(op="charge", outcome="ok")]
    assert sorted(charged) == sorted(due)


def waiting_charge(order_id: str, tier: str, due_at: datetime) -> Output:
    """A charge that failed once and waits on `tier` until `due_at`."""
    body = PaymentRequested(
        order_id=order_id, amount_minor=1200, currency="EUR", not_after=due_at + timedelta(hours=1)
    )
    identity = ids.command_id(order_id, "payment", "forward")
    sent = emit(
        Cause(order_id, order_id), PAYMENT_REQUESTED, body, event_id=identity, now=due_at,
        source="test",
    )  # fmt: skip
    record = ConsumerRecord(
        sent.topic, sum(order_id.encode()) % PARTITIONS, 0, 0, 0, sent.key, sent.value, None, 0, 0,
        tuple(sent.headers),
    )  # fmt: skip
    error = GatewayUnavailable("status 503")
    return deadletter.retry(
        record, tier=tier, role="payment", error=error, attempt=1, due_at=due_at, now=due_at
    )


class Arrivals:
    """When the records of each key arrived on a topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "arrivals", "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(topic, n, 0) for n in range(PARTITIONS)])
        self.at: dict[str, list[datetime]] = defaultdict(list)

    def read(self) -> set[str]:
        """The keys seen so far."""
        for message in self._consumer.consume(500, timeout=0.2):
            if message.error() is None:
                at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
                self.at[(message.key() or b"").decode()].append(at)
        return set(self.at)

    def close(self) -> None:
        self._consumer.close()
