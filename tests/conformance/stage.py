"""One subject on stage: its topics, its database, its worker processes, and eyes on all of them.

Workers are started again whenever they end, after their dead member was removed from the group.
What a test sees, it sees past the product: own SQL, own topic reader, the broker's offsets.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.errors import KafkaError
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import KafkaError as Refusal
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
)

from app.messages import Barrier, Output, encode
from app.topics import CATALOGUE, TopicSpec, changelog_of, dlt_of
from chaos.lab.eviction import evict
from chaos.lab.process import free_port
from chaos.ledger.fleet import Fleet
from chaos.ledger.subject import Launch, environment
from chaos.ledger.topic import committed_offsets
from chaos.records import end_offsets
from tests.conformance.subjects import Facts, Subject, query
from tests.integration.gateway_process import GatewayProcess
from tests.waiting import wait_until

PARTITIONS = 4
TIER = "retry.1s"
CRASHED = 137
FAIL_STOP = 70
WORKER = "from app import settings, worker; worker.run(settings.load_settings())"
READ_S = 30.0
NEVER_S = "0.001"
"""A window in which no end ever falls."""


class Seen(NamedTuple):
    """One record as the reader found it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    def header(self, name: str) -> str:
        """Text of a header, empty when it is absent."""
        return (dict(self.headers).get(name) or b"").decode()


class Topics:
    """Writes inputs, reads everything else; `read` gathers what came since."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 5,
                "message.max.bytes": 2_000_000,
                "log_level": 0,
            }
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "conformance-reader",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 4_000_000,
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [TopicPartition(name, n, 0) for name in topics for n in range(PARTITIONS)]
        )
        self.seen: dict[str, list[Seen]] = defaultdict(list)
        self._next: Counter[tuple[str, int]] = Counter()

    def send(self, outputs: Iterable[Output]) -> None:
        """Write records to their partitions; returns when the broker has them all."""
        failed: list[Any] = []
        for output in outputs:
            assert output.partition is not None
            self._producer.produce(
                output.topic,
                output.value,
                output.key,
                partition=output.partition,
                headers=list(output.headers),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            self._producer.poll(0)
        assert self._producer.flush(30) == 0
        assert not failed, failed[0]

    def read(self, topic: str) -> list[Seen]:
        """Everything that was on a topic when this was called."""
        ends = {
            (topic, n): self._consumer.get_watermark_offsets(TopicPartition(topic, n), READ_S)[1]
            for n in range(PARTITIONS)
        }
        wait_until(
            lambda: self._has_read(ends), timeout_s=READ_S, what=f"the end of {topic}", every_s=0
        )
        return self.seen[topic]

    def _has_read(self, ends: dict[tuple[str, int], int]) -> bool:
        """Whether all records below `ends` were read; reads on when not. Passing errors of the
        broker are no records."""
        if all(self._next[place] >= end for place, end in ends.items()):
            return True
        for one in self._consumer.consume(2000, timeout=0.2):
            if one.error() is None:
                topic, partition, offset = one.topic(), one.partition(), one.offset()
                self._next[topic, partition] = offset + 1
                headers = tuple(one.headers() or ())
                self.seen[topic].append(
                    Seen(topic, partition, offset, one.key(), one.value(), headers)
                )
        return False

    def close(self) -> None:
        """Close the reader."""
        self._consumer.close()


class Stage:
    """`start()` before use, `close()` at the end; between tests one healthy worker runs."""

    def __init__(
        self,
        subject: Subject,
        bootstrap: str,
        dsn: str,
        directory: Path,
        gateway: GatewayProcess,
    ) -> None:
        self.subject, self.dsn, self.bootstrap = subject, dsn, bootstrap
        self.gateway = gateway
        self.namespace = f"conf-{subject.name}"
        self.group = f"{self.namespace}-{subject.role}"
        self.name = subject.name
        self._directory = directory
        self._numbers = iter(range(1, 1_000_000))
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._changelogs = {
            name: changelog_of(self.namespace, subject.role, name).name for name in subject.tables
        }
        plain = {*subject.topics, subject.outputs, TIER, *map(dlt_of, subject.topics)}
        plain = (plain | set(subject.others)) - {""}
        self._names = [*sorted(plain), *self._changelogs.values()]
        self._once: dict[str, str] = {}
        self._armed: list[str] = []
        self._log_read = 0
        self._ports: dict[str, int] = {}
        self._settings = {
            "NAMESPACE": self.namespace,
            "ROLE": subject.role,
            "LAB": "true",
            "PLUGINS": "chaos.injector",
            "BROKER_BOOTSTRAP": bootstrap,
            "POSTGRES_DSN": dsn,
            "TOPIC_PARTITIONS": str(PARTITIONS),
            "SESSION_TIMEOUT_S": "6",
            "COMMIT_INTERVAL_S": "0.2",
            "RETRY_TIERS_S": "1",
            "RETRY_ATTEMPTS_MAX": "3",
            "KILLER_WINDOW_S": NEVER_S,
            "STEP_DEADLINE_S": "600",
            "SAGA_IDLE_REDRIVE_S": "600",
            "LOG_FORMAT": "json",
            "DATA_DIR": str(directory / "data"),
            "GATEWAY_URL": gateway.url,
        }
        self._create_topics()
        self.topics = Topics(bootstrap, self._names)
        self.fleet = Fleet(self, directory, self._evict)  # type: ignore[arg-type]

    # Workers

    def start(self) -> None:
        """Returns when the first worker is ready."""
        self.fleet.start("worker-1")
        self.ready()

    def launch(self, worker: str, incarnation: int) -> Launch:
        """One start of a worker; takes the next armed failpoint."""
        port = self._ports.setdefault(worker, free_port())
        armed = self._armed.pop(0) if self._armed else ""
        own = {
            "WORKER_ID": worker,
            "INCARNATION": str(incarnation),
            "HEALTH_PORT": str(port),
            "FAILPOINTS": armed,
        }
        settings = {**self._settings, **self._once, **own}
        variables = {f"SYMPHONY_{name}": value for name, value in settings.items()}
        return Launch(
            (sys.executable, "-c", WORKER),
            {**environment(), **variables},
            f"{worker}.{incarnation}",
        )

    def restart(self, *armed: str, **settings: str) -> None:
        """Kill the worker; its next starts take one of `armed` each, and `settings` until the next
        restart. Does not wait."""
        self._armed, self._once = list(armed), settings
        self.fleet.signal("worker-1", signal.SIGKILL)

    def heal(self, **settings: str) -> None:
        """Start the worker anew without faults and wait until it is ready."""
        pid = self.fleet.pid("worker-1")
        self.restart(**settings)
        assert self.fleet.wait_restarted("worker-1", pid, 60)
        self.ready()

    def ready(self, worker: str = "worker-1") -> None:
        """Wait until a worker has joined, recovered and reads."""
        self._wait(lambda: self.status(worker).get("ready"), 120, f"{worker} is ready")

    def status(self, worker: str = "worker-1") -> dict[str, Any]:
        """What /status says; empty while nobody answers."""
        with suppress(OSError, ValueError):
            answer: dict[str, Any] = json.loads(self._get(worker, "status"))
            return answer
        return {}

    def consumer(self, worker: str = "worker-1") -> dict[str, Any]:
        """What /status says of the subject's consumer; empty while nobody answers."""
        name = self.subject.consumer or self.subject.role
        consumers: list[dict[str, Any]] = self.status(worker).get("consumers", [])
        return next((one for one in consumers if one["consumer"] == name), {})

    def state(self, worker: str = "worker-1") -> tuple[str, str]:
        """Batch state and reason of a hold."""
        consumer = self.consumer(worker)
        return consumer.get("state", ""), consumer.get("hold_reason", "")

    def count(self, metric: str, **labels: str) -> float:
        """Sum of a counter's series on worker-1 with those labels."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in self._get("worker-1", "metrics").splitlines()
            if line.startswith(metric) and all(one in line for one in wanted)
        )

    def ends(self) -> Counter[int]:
        """Exit codes of all ends that nobody asked for, so far."""
        return Counter(end.code for end in self.fleet.exits if end.wanted)

    def _get(self, worker: str, path: str) -> str:
        port = self._ports.get(worker, 1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=20) as response:
            text: str = response.read().decode()
            return text

    def _evict(self, launch: Launch) -> None:
        with suppress(KafkaError, OSError):  # then the session timeout does it
            asyncio.run(evict(self.bootstrap, self.group, launch.client_id))

    # Inputs and what came of them

    def keys(self, count: int) -> list[str]:
        """Keys nobody used before."""
        return [self.subject.key(next(self._numbers)) for _ in range(count)]

    def messages(self, keys: Iterable[str]) -> list[Output]:
        """The inputs of keys, each on its partition."""
        return [self.placed(self.subject.message(key)) for key in keys]

    def placed(self, output: Output) -> Output:
        """A record on the partition of its key."""
        partition = sum(output.key or b"") % PARTITIONS
        return Output(output.topic, output.key, output.value, output.headers, partition)

    @staticmethod
    def barrier(topic: str, partition: int) -> Output:
        """A barrier with a nonce of its own."""
        nonce = str(uuid.uuid4())
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", nonce.encode()),
            ("ce_source", b"conformance"),
            ("ce_type", Barrier.TYPE.encode()),
        ]
        return Output(topic, nonce.encode(), encode(Barrier(nonce=nonce)), headers, partition)

    def passed(self, barriers: Iterable[Output]) -> int:
        """How many of these barriers the consumer has put into its inbox."""
        nonces = [(one.key or b"").decode() for one in barriers]
        consumer = self.subject.consumer or self.subject.role
        sql = "select count(*) from ops.inbox where consumer = %(consumer)s"
        sql += " and event_id = any(%(nonces)s::uuid[])"
        return int(query(self.dsn, sql, consumer=consumer, nonces=nonces)[0][0])

    def excess(self, facts: Facts) -> list[str]:
        """Keys that had more than their one effect; fewer is fine while a worker is dead."""
        once = self.subject.once
        return [
            key
            for key, fact in facts.items()
            if any(
                isinstance(want, int) and got > want for got, want in zip(fact, once, strict=True)
            )
        ]

    def struck(self) -> list[str]:
        """Failpoints at which a fault struck since this was asked last, in order."""
        log = (self._directory / "worker-1.log").read_text(errors="replace").splitlines()
        lines, self._log_read = log[self._log_read :], len(log)
        found = [json.loads(line) for line in lines if '"fault.injected"' in line]
        return [line["point"] for line in found]

    def settled(self, timeout_s: float = 120) -> None:
        """Wait until the group has committed everything there is on its topics."""

        def all_committed() -> bool:
            places = product(self.subject.topics, range(PARTITIONS))
            ends = end_offsets(self.bootstrap, places)
            done = committed_offsets(self.bootstrap, self.group)
            return all(done.get(tp, 0) >= end for tp, end in ends.items())

        # twice: a role may feed itself (the probe's second stage)
        for _ in range(2):
            self._wait(all_committed, timeout_s, "everything is committed")

    def wait_effects(self, keys: list[str], timeout_s: float = 120) -> Facts:
        """Wait until every key has had exactly its effect."""
        wanted = dict.fromkeys(keys, self.subject.once)
        self._wait(
            lambda: self.subject.effects(self.dsn, keys) == wanted,
            timeout_s,
            f"the effects of {len(keys)} inputs",
        )
        return wanted

    def assert_once(self, keys: list[str]) -> None:
        """Every key had its effect exactly once, said so in one output event, and stands in every
        table as it should."""
        self.settled()
        facts, once = self.subject.effects(self.dsn, keys), self.subject.once
        wrong = {key: facts.get(key) for key in keys if facts.get(key) != once}
        assert not wrong, (
            f"{len(wrong)} of {len(keys)} inputs had other effects than {once}: {wrong}"
        )
        self.assert_outputs(keys)
        self.assert_tables(keys)
        if self.subject.role == "payment":
            money = {key: net for key, net in self.captured(keys).items() if net != 1}
            assert not money, f"charged otherwise than once: {money}"

    def captured(self, keys: list[str]) -> dict[str, int]:
        """Charges minus refunds of each order, by the gateway's own ledger."""
        net = Counter(line["order_id"] for line in self.gateway.lines(op="charge", outcome="ok"))
        net.subtract(line["order_id"] for line in self.gateway.lines(op="refund", outcome="ok"))
        return {key: net[key] for key in keys}

    def assert_outputs(self, keys: list[str], distinct: int = 1) -> None:
        """One output event per key (or `distinct`); repeats of it are the same to the byte."""
        if not self.subject.outputs:
            return
        events: dict[bytes, set[tuple[str, bytes | None]]] = defaultdict(set)
        for one in self.topics.read(self.subject.outputs):
            events[one.key or b""].add((one.header("ce_id"), one.value))
        wrong = {key: events[key.encode()] for key in keys if len(events[key.encode()]) != distinct}
        assert not wrong, f"{len(wrong)} of {len(keys)} inputs have not {distinct} outputs: {wrong}"

    def assert_tables(self, keys: list[str]) -> None:
        """The changelogs hold what each input leaves in each table."""
        for name, entry_of in self.subject.tables.items():
            table = {one.key: one.value for one in self.topics.read(self._changelogs[name])}
            for key in keys:
                entry, value = entry_of(key, self.subject.event_id(key))
                assert table.get(entry) is not None, f"{key} is not in table {name}"
                assert value is None or table[entry] == value, f"{key} in table {name}"
        for name, statement in self.subject.stored.items():
            changes = self.topics.read(self._changelogs[name])
            fold = {(one.partition, (one.key or b"").decode()): one.value for one in changes}
            rows = {(row[0], row[1]): json.loads(row[2]) for row in self.sql(statement)}
            assert {place: json.loads(fold.get(place) or b"{}") for place in rows} == rows, name

    def letters(self, topic: str | None = None) -> list[Seen]:
        """Dead letters of the input topic so far."""
        return self.topics.read(dlt_of(topic or self.subject.input))

    def sql(self, statement: str, **params: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the subject's database, past the product."""
        return query(self.dsn, statement, **params)

    def limit_record_size(self, topic: str, max_bytes: int) -> None:
        """Make the broker refuse larger batches on a topic."""
        self.configure(topic, "max.message.bytes", str(max_bytes))

    def configure(self, topic: str, name: str, value: str) -> None:
        """Change one setting of a topic."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource("topic", topic, incremental_configs=[entry])
        for future in self._admin.incremental_alter_configs([resource]).values():
            future.result(20)

    def close(self) -> None:
        """End the processes and remove the topics."""
        self.fleet.close()
        self.topics.close()
        self._delete_topics()

    def _delete_topics(self) -> None:
        for future in self._admin.delete_topics(self._names).values():
            _unless(Refusal.UNKNOWN_TOPIC_OR_PART, future)

    def _create_topics(self) -> None:
        declared = {
            **CATALOGUE,
            **{
                name: TopicSpec(name, "", (), None, "compact") for name in self._changelogs.values()
            },
            **{
                dlt_of(name): CATALOGUE["order.created.dlt"]._replace(name=dlt_of(name))
                for name in self.subject.topics
            },
        }
        wanted = []
        for name in self._names:
            spec = declared.get(name) or TopicSpec(name, "", (), None)
            wanted.append(NewTopic(name, PARTITIONS, 1, config=spec.config()))
        self._delete_topics()  # what another test on this broker has left
        for future in self._admin.create_topics(wanted).values():
            _unless(Refusal.TOPIC_ALREADY_EXISTS, future)

    def _wait(self, condition: Any, timeout_s: float, what: str) -> None:
        try:
            wait_until(condition, timeout_s=timeout_s, what=what, every_s=0.1)
        except AssertionError as error:
            said = [self.status(worker) for worker in self._ports]
            raise AssertionError(
                f"{error}\nends: {self.ends()}\nstatus: {said}\n{self.fleet.log_tail()}"
            ) from None


def _unless(done: int, future: Future[Any]) -> None:
    """Wait for an answer; a request that the client sent again may find that it was done."""
    try:
        future.result(20)
    except KafkaException as error:
        if error.args[0].code() != done:
            raise
