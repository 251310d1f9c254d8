"""The auditor's readers on real servers, and what becomes of books that cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import psycopg2
import pytest
import typer
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.auditor import __main__ as auditor
from chaos.auditor import ledgers, records
from chaos.auditor.records import Span, Topics, as_row
from chaos.auditor.rest import look
from chaos.auditor.snapshot import read_snapshot
from chaos.auditor.sources import UnreadableError
from chaos.auditor.store import Store
from chaos.lab.broker import Broker
from tests.waiting import wait_until

ORDER = "01a2000e-2454-7ef4-8bc0-1f9cfef6ae0d"


@pytest.mark.integration
def test_every_record_of_real_topics_is_read(broker: Broker) -> None:
    """All partitions, from the first offset to the end; keys, headers and null values included."""
    topic = f"order.auditor-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    wanted = [NewTopic(topic, 3, 1), NewTopic(f"{topic}-empty", 2, 1)]
    for created in admin.create_topics(wanted).values():
        created.result(20)
    topics, names = Topics(broker.bootstrap), [topic, f"{topic}-empty"]

    def partitions() -> bool:
        try:
            return len(topics.spans(names)) == 5
        except UnreadableError:
            return False

    wait_until(partitions, timeout_s=20, what="five partitions")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    body = json.dumps({"order_id": ORDER, "status": "COMPLETED", "saga_version": 7}).encode()
    event_id = str(uuid.uuid4())
    headers = {"ce_id": event_id, "ce_type": "t.v1", "ce_causationid": "c", "x-attempt": "2"}
    for _ in range(300):
        producer.produce(topic, body, ORDER.encode(), headers=headers)
    producer.produce(topic, None, b"tombstone", partition=2)
    producer.produce(topic, b"\xff{", b"junk", partition=0, headers={"ce_id": "no id"})
    assert producer.flush(20) == 0
    assert topic in topics.names()
    rows = [as_row(message) for message in topics.read(topics.spans(names))]
    assert len(rows) == 302
    for partition in range(3):
        offsets = [row.offset for row in rows if row.partition == partition]
        assert offsets == list(range(len(offsets)))
    good = [row for row in rows if row.readable]
    assert len(good) == 300
    assert (good[0].event_id, good[0].order_id, good[0].type) == (event_id, ORDER, "t.v1")
    assert (good[0].status, good[0].saga_version, good[0].attempt) == ("COMPLETED", 7, 2)
    junk = [row for row in rows if not row.readable]
    assert {(row.key, row.event_id) for row in junk} == {("tombstone", None), ("junk", None)}
    with Store() as store:
        assert store.insert("record", rows) == 302
        assert store.number('select count(distinct (partition, "offset")) from record') == 302


@pytest.mark.integration
def test_committed_offsets_are_read_without_joining_the_group(broker: Broker) -> None:
    """Those of a group that exists, none of one that does not."""
    topic, group = f"order.committed-{uuid.uuid4().hex[:8]}", f"group-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 17)], asynchronous=False)
    consumer.close()
    topics = Topics(broker.bootstrap)
    assert topics.committed(group) == {(topic, 0): 17}
    assert topics.committed(f"{group}-absent") == {}


@pytest.mark.integration
def test_the_snapshot_copies_every_table_at_one_instant(database: str) -> None:
    """Rows of the platform's own schema arrive with their types; stored outputs are unpacked."""
    event, cause = str(uuid.uuid4()), str(uuid.uuid4())
    packed = msgspec.msgpack.encode(
        [["payment.result", ORDER.encode(), b'{"outcome":"OK"}', [["ce_id", event.encode()]], None]]
    )
    connection = psycopg2.connect(database)
    with connection, connection.cursor() as cursor:
        cursor.execute("insert into orders.orders values (%s, 'ada', 5, 'EUR', null, false, now())",
                       (ORDER,))  # fmt: skip
        cursor.execute("insert into orders.order_item values (%s, 1, 'DRUM', 1, 5, true)", (ORDER,))
        cursor.execute(
            "insert into ops.inbox (consumer, event_id, status, attempt, outputs, topic, partition,"
            " \"offset\") values ('payment', %s, 0, 0, %s, 'payment.requested', 1, 9)",
            (cause, packed),
        )
    connection.close()
    with Store() as store:
        read_snapshot(database, store, lambda _: None)
        assert store.rows("select order_id::varchar, total_minor, currency from orders") == [
            (ORDER, 5, "EUR")
        ]
        stored = store.rows(
            "select consumer, cause_id::varchar, topic, event_id::varchar from stored_output"
        )
        assert stored == [("payment", cause, "payment.result", event)]
        assert store.number("select count(*) from item where tracked") == 1
    assert look(database).busy == "1 of 1 orders on their way"


def test_servers_that_are_away_are_unreadable_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is an unread book, not an empty one."""
    monkeypatch.setattr(records, "REQUEST_TIMEOUT_S", 0.5)
    with pytest.raises(UnreadableError, match="Kafka"):
        Topics("127.0.0.1:1").names()
    with Store() as store, pytest.raises(UnreadableError, match="PostgreSQL"):
        read_snapshot("postgresql://nobody@127.0.0.1:1/none", store, lambda _: None)


class Message:
    """A message of a consumer: a record of `t[0]`, or an error about it."""

    def __init__(self, offset: int = -1, code: int | None = None) -> None:
        self._offset = offset
        self._error = None if code is None else KafkaError(code)

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


class Scripted:
    """A consumer that hands out these messages, one a call, and then nothing."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)

    def assign(self, _places: list[TopicPartition]) -> None:
        pass

    def consume(self, _count: int, _timeout_s: float) -> list[Message]:
        return [self._messages.pop(0)] if self._messages else []

    def close(self) -> None:
        pass


def reading(monkeypatch: pytest.MonkeyPatch, *messages: Message) -> list[int]:
    """Offsets that are read of `t[0]`, which ends at 3."""
    topics = Topics("nowhere")
    monkeypatch.setattr(topics, "_consumer", lambda: Scripted(*messages))
    return [one.offset() for one in topics.read({("t", 0): Span(0, 3)})]


def test_an_error_about_a_partition_is_not_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries again by itself, and what comes then is read."""
    trouble = Message(code=KafkaError._TRANSPORT)
    records = [Message(number) for number in range(3)]
    assert reading(monkeypatch, records[0], trouble, *records[1:]) == [0, 1, 2]


def test_the_end_that_the_broker_tells_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that were compacted away do not come."""
    assert reading(monkeypatch, Message(0), Message(3, KafkaError._PARTITION_EOF)) == [0]


def test_a_partition_that_gives_nothing_is_an_unread_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with the error."""
    monkeypatch.setattr(records, "STALL_TIMEOUT_S", 0.05)
    trouble = Message(code=KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(UnreadableError, match=r"t\[0\] \(.*TOPIC_AUTHORIZATION_FAILED"):
        reading(monkeypatch, Message(0), trouble)


def line(**fields: Any) -> str:
    """A line of a load ledger."""
    known = {"op": "a", "kind": "create", "outcome": "ok", "expected": "", "order_id": ORDER,
             "idempotency_key": "k", **fields}  # fmt: skip
    return json.dumps(known)


def test_a_request_is_known_by_its_last_line(tmp_path: Path) -> None:
    """A second line replaces the first; a lone `sent` is unknown; a torn end is no damage."""
    path = tmp_path / "load.jsonl"
    path.write_text(
        "\n".join([line(outcome="sent"), line(), line(op="b", outcome="sent", order_id=""), '{"to'])
    )
    with Store() as store:
        ledgers.read_requests([path], store)
        rows = store.rows("select op, outcome from request order by op")
    assert rows == [("a", "ok"), ("b", "unknown")]


@pytest.mark.parametrize("damage", ["{broken\n", "[1]\n", '{"op": 1}\n', '{"op": "a"}\n', "\xff\n"])
def test_a_damaged_line_makes_the_ledger_unreadable(tmp_path: Path, damage: str) -> None:
    """Evidence with holes proves nothing; the message names file and line where it can."""
    path = tmp_path / "load.jsonl"
    path.write_text(line() + "\n" + damage, encoding="latin-1")
    with Store() as store, pytest.raises(UnreadableError, match=r"load\.jsonl"):
        ledgers.read_requests([path], store)
    with Store() as store, pytest.raises(UnreadableError, match="No such file"):
        ledgers.read_gateway(tmp_path / "absent", store)


def test_the_process_ends_with_2_when_no_book_can_be_read(tmp_path: Path) -> None:
    """Everything is away: one JSON document says what, and the exit code is 2; so it is for wrong
    usage, without a traceback.
    """
    command = [sys.executable, "-m", "chaos.auditor"]
    away = ["--dsn", "postgresql://nobody@127.0.0.1:1/none", "--bootstrap", "127.0.0.1:1",
            "--deadline", "0", "--json", "--html", str(tmp_path / "audit.html")]  # fmt: skip
    done = subprocess.run([*command, *away], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    told = json.loads(done.stdout)
    assert (told["safety"], told["liveness"]) == ("unknown", "unknown")
    assert set(told["unread"]) == {"load ledger", "PostgreSQL", "topics", "gateway ledger"}
    assert "could not be read" in (tmp_path / "audit.html").read_text()
    wrong = subprocess.run([*command, "--dsn"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_an_auditor_that_fails_has_found_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it fails of, the exit code is that of no verdict, never that of a violation."""

    def fail(_main: object) -> None:
        raise duckdb.OutOfMemoryException("no memory\nfor this")

    monkeypatch.setattr(typer, "run", fail)
    with pytest.raises(SystemExit) as ended:
        auditor.run()
    assert ended.value.code == 2
    assert "audit: OutOfMemoryException: no memory for this" in capsys.readouterr().err
