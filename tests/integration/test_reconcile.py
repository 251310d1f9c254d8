"""The reconciliation holds on consistent books and finds every planted defect in each of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import typer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from chaos.lab.broker import Broker
from chaos.reconcile import command
from chaos.reconcile.judge import judge
from chaos.reconcile.ledgers import UnreadableError
from chaos.reconcile.quiescence import wait_quiet
from chaos.reconcile.reading import read
from chaos.reconcile.report import document, sentence, text
from chaos.reconcile.topics import KafkaReader, Record
from chaos.reconcile.verdict import EXIT_CODES, State, Verdict
from chaos.workload.target import Target
from tests.integration.reconcile_books import TOTAL, Books
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def books(database: str, tmp_path: Path) -> Iterator[Books]:
    """Consistent books of six orders."""
    made = Books(database, tmp_path)
    yield made
    made.close()


def verdict_of(books: Books) -> Verdict:
    """Read and judge what the books say now."""
    books.write()
    return judge(read(books.sources()))


def test_consistent_books_hold_and_every_check_examined_something(books: Books) -> None:
    """Nothing is found in consistent books, and no check but that of refusals was idle."""
    verdict = verdict_of(books)
    assert (verdict.result, EXIT_CODES[verdict.result]) == ("holds", 0), text(verdict)
    assert verdict.vacuous == ["refused"]
    assert "at-least-once delivery, effects once" in sentence(verdict)
    outcomes = {(row["class"], row["end"]): row["orders"] for row in verdict.facts["outcomes"]}
    assert outcomes[("happy", "COMPLETED")] == 2
    assert outcomes[("cancelled", "CANCELLED (customer)")] == 1
    assert len(outcomes) == 5


def _lose_an_order(books: Books) -> str:
    books.request("ghost", expected="happy", order_id="00000000-0000-0000-0000-00000000dead")
    return "00000000-0000-0000-0000-00000000dead"


def _accept_a_key_twice(books: Books) -> str:
    books.sql("update orders.idempotency set order_id = %s where key = 'key-happy'",
              books.orders["happy-2"])  # fmt: skip
    return books.orders["happy"]


def _refuse_yet_create(books: Books) -> str:
    books.sql("insert into orders.idempotency values ('key-no', '', %s, '', now())",
              books.orders["happy"])  # fmt: skip
    books.request("no", outcome="fail", detail="422")
    return books.orders["happy"]


def _leave_an_order_running(books: Books) -> str:
    books.sql("update orders.saga set state = 'PAYMENT_PENDING' where order_id = %s",
              books.orders["happy"])  # fmt: skip
    return books.orders["happy"]


def _never_drive_an_order(books: Books) -> str:
    books.sql("delete from orders.saga where order_id = %s", books.orders["happy"])
    return books.orders["happy"]


def _drive_a_stranger(books: Books) -> str:
    stub = "00000000-0000-0000-0000-00000000dead"
    books.sql("insert into orders.saga (order_id, partition, version, state, terminal, body,"
              " created_at, updated_at) values (%s, 0, 1, 'CANCELLED', true, '', now(), now())",
              stub)  # fmt: skip
    return stub


def _forget_a_cancellation(books: Books) -> str:
    books.history(books.orders["happy"], "", "cancel_requested")
    return books.orders["happy"]


def _take_a_version_back(books: Books) -> str:
    books.sql("update orders.saga set version = 4 where order_id = %s", books.orders["happy"])
    return books.orders["happy"]


def _leave_a_command_outstanding(books: Books) -> str:
    books.sql("update orders.saga set terminal = false where order_id = %s", books.orders["happy"])
    return books.orders["happy"]


def _complete_a_declined_order(books: Books) -> str:
    books.request("wrong", expected="declined", order_id=books.orders["happy"])
    return books.orders["happy"]


def _go_on_after_the_end(books: Books) -> str:
    books.history(books.orders["declined"], "completed", "COMPLETED")
    return books.orders["declined"]


def _charge_twice(books: Books) -> str:
    books.attempt("charge", books.orders["happy"], idempotency_key="another")
    return books.orders["happy"]


def _never_charge(books: Books) -> str:
    books.drop("charge", books.orders["happy"])
    return books.orders["happy"]


def _charge_a_wrong_amount(books: Books) -> str:
    books.drop("charge", books.orders["happy"])
    books.attempt("charge", books.orders["happy"], amount_minor=TOTAL + 1)
    return books.orders["happy"]


def _keep_the_money(books: Books) -> str:
    books.drop("refund", books.orders["shipping_refused"])
    return books.orders["shipping_refused"]


def _refund_twice(books: Books) -> str:
    books.attempt("refund", books.orders["out_of_stock"], idempotency_key="another")
    return books.orders["out_of_stock"]


def _charge_a_stranger(books: Books) -> str:
    books.attempt("charge", "nobody")
    return "nobody"


def _forget_a_charge(books: Books) -> str:
    books.sql("update payments.payment_attempt set status = 'DECLINED' where order_id = %s",
              books.orders["happy"])  # fmt: skip
    return books.orders["happy"]


def _leak_stock(books: Books) -> str:
    books.sql("alter table inventory.stock drop constraint ck_stock_conserved")
    books.sql("update inventory.stock set available = 97 where sku = 'DRUM'")
    return "DRUM"


def _consume_unbought_stock(books: Books) -> str:
    books.sql("update inventory.stock set available = 97, consumed = 3 where sku = 'DRUM'")
    return "DRUM"


def _hold_stock_for_ever(books: Books) -> str:
    books.sql("update inventory.reservation set status = 'HELD' where order_id = %s",
              books.orders["cancelled"])  # fmt: skip
    return books.orders["cancelled"]


def _take_other_goods(books: Books) -> str:
    books.sql("update inventory.reservation_line set qty = 2 where order_id = %s",
              books.orders["happy"])  # fmt: skip
    return books.orders["happy"]


def _ship_a_cancelled_order(books: Books) -> str:
    books.sql("update shipping.shipment set status = 'SHIPPED' where order_id = %s",
              books.orders["shipping_refused"])  # fmt: skip
    return books.orders["shipping_refused"]


def _never_ship(books: Books) -> str:
    books.sql("delete from shipping.shipment where order_id = %s", books.orders["happy"])
    return books.orders["happy"]


def _leave_an_outbox_row(books: Books) -> str:
    books.sql(
        "insert into ops.outbox (event_id, aggregate_type, aggregate_id, topic, ce_id, ce_source,"
        " ce_type, ce_time, ce_correlationid, ce_causationid, traceparent, payload, shard)"
        " values (gen_random_uuid(), 'order', 'o', 'order.created', '', '', '', '', '', '', '',"
        " '', 0)"
    )
    return "order.created"


def _lose_an_event(books: Books) -> str:
    books.fake.records = [
        record
        for record in books.fake.records
        if (record.topic, record.key) != ("order.created", books.orders["happy"].encode())
    ]
    return books.orders["happy"]


def _announce_a_wrong_total(books: Books) -> str:
    body = {"order_id": books.orders["happy"], "total_minor": 1, "currency": "EUR"}
    _lose_an_event(books)
    books.fake.append("order.created", books.orders["happy"], body, "wrong-total")
    return books.orders["happy"]


def _invent_an_order(books: Books) -> str:
    body = {"order_id": "phantom", "total_minor": 1, "currency": "EUR"}
    books.fake.append("order.created", "phantom", body, "phantom")
    return "phantom"


def _announce_what_never_was(books: Books) -> str:
    body = {"order_id": books.orders["declined"], "status": "COMPLETED", "saga_version": 1}
    books.fake.append("order.status_changed", books.orders["declined"], body, "never-was")
    return books.orders["declined"]


def _announce_in_the_wrong_order(books: Books) -> str:
    order_id = books.orders["declined"]
    body = {"order_id": order_id, "status": "PAYMENT_PENDING", "saga_version": 2}
    books.fake.append("order.status_changed", order_id, body, "too-late")
    return order_id


def _never_announce(books: Books) -> str:
    books.fake.records = [
        r for r in books.fake.records if r.headers["ce_id"] != b"declined-CANCELLED"
    ]
    return books.orders["declined"]


def _repeat_with_another_body(books: Books) -> str:
    body = {"order_id": books.orders["happy"], "total_minor": 7, "currency": "EUR"}
    books.fake.append("order.created", books.orders["happy"], body, "created-happy")
    return "order.created"


def _scatter_a_key(books: Books) -> str:
    first = books.fake.records[0]
    books.fake.records.append(Record(first.topic, 3, 0, first.key, first.value, first.headers))
    return "order.created"


def _write_junk(books: Books) -> str:
    books.fake.records.append(Record("order.created", 0, 99, b"x", b"\xff{", {"ce_id": b"junk"}))
    return "order.created"


DEFECTS: list[tuple[Callable[[Books], str], str]] = [
    (_lose_an_order, "accepted"),
    (_accept_a_key_twice, "accepted"),
    (_refuse_yet_create, "refused"),
    (_complete_a_declined_order, "class"),
    (_leave_an_order_running, "ended"),
    (_leave_an_order_running, "history"),
    (_leave_an_order_running, "announced"),
    (_never_drive_an_order, "ended"),
    (_drive_a_stranger, "ended"),
    (_forget_a_cancellation, "ended"),
    (_leave_a_command_outstanding, "ended"),
    (_go_on_after_the_end, "history"),
    (_take_a_version_back, "history"),
    (_take_a_version_back, "announced"),
    (_charge_twice, "charge"),
    (_never_charge, "charge"),
    (_charge_a_wrong_amount, "charge"),
    (_charge_twice, "bank"),
    (_keep_the_money, "refund"),
    (_refund_twice, "refund"),
    (_charge_a_stranger, "payments"),
    (_forget_a_charge, "payments"),
    (_leak_stock, "stock"),
    (_consume_unbought_stock, "stock"),
    (_hold_stock_for_ever, "reservations"),
    (_take_other_goods, "reservations"),
    (_ship_a_cancelled_order, "shipment"),
    (_never_ship, "shipment"),
    (_leave_an_outbox_row, "outbox"),
    (_lose_an_event, "created"),
    (_announce_a_wrong_total, "created"),
    (_invent_an_order, "created"),
    (_announce_what_never_was, "announced"),
    (_announce_in_the_wrong_order, "announced"),
    (_never_announce, "announced"),
    (_repeat_with_another_body, "records"),
    (_scatter_a_key, "records"),
    (_write_junk, "records"),
]


@pytest.mark.parametrize(
    ("plant", "name"), DEFECTS, ids=[f"{plant.__name__[1:]}-{name}" for plant, name in DEFECTS]
)
def test_a_planted_defect_is_found_by_its_check_with_its_witness(
    books: Books, plant: Callable[[Books], str], name: str
) -> None:
    """Each defect makes the intended check fail and is named among its witnesses; exit code 1."""
    item = plant(books)
    verdict = verdict_of(books)
    assert EXIT_CODES[verdict.result] == 1
    check = next(one for one in verdict.checks if one.name == name)
    assert check.state is State.VIOLATED, text(verdict)
    named = item if name != "bank" else "EUR"
    assert any(one.item.startswith(named) for one in check.witnesses), check.witnesses
    assert check.witnesses[0].wrong in text(verdict)
    assert document(verdict, "")["exit_code"] == 1


def test_an_unknown_answer_is_resolved_by_its_key(books: Books) -> None:
    """An answer that never came may or may not have made an order; neither is a violation."""
    books.request("lost-answer", outcome="unknown", expected="happy")
    books.request("happy", outcome="sent", expected="happy", order_id="")
    verdict = verdict_of(books)
    assert verdict.result == "holds", text(verdict)
    accepted = next(one for one in verdict.checks if one.name == "accepted")
    assert accepted.note == "2 answers unknown: 1 of them had made an order"


def test_a_late_cancellation_may_lose_when_the_history_says_so(books: Books) -> None:
    """COMPLETED is right for a cancelled order whose cancellation came too late, and was told."""
    order_id = books.orders["happy"]
    books.request("late", expected="cancelled", order_id=order_id)
    books.request("late-cancel", kind="cancel", expected="cancelled", order_id=order_id)
    assert verdict_of(books).result == "violated"
    books.sql("update orders.order_history set event = 'cancel_refused' where order_id = %s"
              " and status = 'COMMIT_PENDING'", order_id)  # fmt: skip
    books.sql("delete from orders.idempotency where key = 'key-happy'")
    books.request("happy", outcome="fail", detail="")
    verdict = verdict_of(books)
    assert verdict.result == "holds", text(verdict)


def test_identical_repeats_and_dead_letters_are_listed_not_violations(books: Books) -> None:
    """At-least-once delivery repeats records; a dead letter waits for an operator."""
    books.fake.records.append(books.fake.records[0]._replace(offset=50))
    headers = {"x-original-topic": b"order.created", "x-error-class": b"poison"}
    books.fake.records.append(Record("order.created.dlt", 0, 0, b"k", b"v", headers))
    verdict = verdict_of(books)
    assert verdict.result == "holds", text(verdict)
    assert (verdict.facts["repeated"], verdict.facts["dead_letters"]) == (1, 1)
    assert "order.created.dlt[0]@0: poison" in text(verdict)


def test_a_missing_or_damaged_source_makes_the_verdict_unknown(books: Books) -> None:
    """What could not be read is never reported as holding; exit code 2 names it."""
    books.gateway_ledger.unlink()
    verdict = judge(read(books.sources()))
    assert EXIT_CODES[verdict.result] == 2
    assert str(books.gateway_ledger) in sentence(verdict)
    books.write()
    books.load_ledger.write_text('{"op": 1}\n{broken\n')
    assert judge(read(books.sources())).result == "unknown"
    assert judge(read(books.sources()._replace(load_ledgers=[]))).result == "unknown"
    books.write()
    away = books.sources()._replace(dsn="postgresql://nobody@127.0.0.1:1/none")
    assert judge(read(away)).result == "unknown"


def test_an_order_made_while_the_books_are_read_is_no_violation(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the topics but came after the snapshot: everything is read again."""
    reader, made = books.fake.read, []

    def read_later(topics: Iterable[str]) -> Iterator[Record]:
        if not made:
            made.append(books.late_order())
        return reader(topics)

    monkeypatch.setattr(books.fake, "read", read_later)
    evidence = read(books.sources())
    assert evidence.snapshot is not None
    assert made[0] in evidence.snapshot.orders
    assert judge(evidence).result == "holds"


def test_a_torn_last_line_is_not_damage(books: Books) -> None:
    """A writer killed in the middle of a line leaves readable evidence."""
    with books.load_ledger.open("a") as file:
        file.write('{"op": "to')
    assert judge(read(books.sources())).result == "holds"


def test_an_empty_platform_is_unknown_not_holding(books: Books) -> None:
    """A reconciliation that examined no order proves nothing."""
    books.sql("truncate orders.orders, orders.order_item, orders.saga, orders.order_history,"
              " orders.idempotency, payments.payment_attempt, inventory.reservation,"
              " inventory.reservation_line, inventory.stock, shipping.shipment")  # fmt: skip
    books.fake.records.clear()
    books.load_ledger.write_text("")
    books.gateway_ledger.write_text("")
    verdict = judge(read(books.sources()))
    assert (verdict.result, verdict.orders) == ("unknown", 0)
    assert "no order to examine" in sentence(verdict)


def test_rest_is_seen_and_unrest_is_told_after_the_deadline(books: Books) -> None:
    """At rest the wait ends by itself; otherwise it ends at its deadline and says what is busy."""
    assert wait_quiet(books.dsn, lambda: 7, deadline_s=10, pause_s=0.01) == ""
    _leave_an_order_running(books)
    told: list[str] = []
    unrest = wait_quiet(books.dsn, lambda: 7, deadline_s=0.05, pause_s=0.01, progress=told.append)
    assert unrest == "1 of 6 orders on their way"
    assert told[0] == unrest
    _never_drive_an_order(books)
    unrest = wait_quiet(books.dsn, lambda: 7, deadline_s=0, pause_s=0.01)
    assert unrest == "1 of 6 orders on their way"


def test_a_cancellation_that_nobody_decided_yet_is_unrest(books: Books) -> None:
    """It may wait in its topic, until the orchestrator writes about it or the order has ended."""
    completed, declined = books.orders["happy"], books.orders["declined"]
    for order_id in (completed, declined):
        books.history(order_id, "", "cancel_requested")
    unrest = wait_quiet(books.dsn, lambda: 7, deadline_s=0.05, pause_s=0.01)
    assert unrest == "1 cancellations undecided"
    books.history(completed, "cancel_requested", "COMPLETED", 5)
    books.history(completed, "cancel_refused", "COMPLETED", 5)
    assert wait_quiet(books.dsn, lambda: 7, deadline_s=10, pause_s=0.01) == ""


def test_the_command_waits_reads_all_books_and_exits_by_the_verdict(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`symphony reconcile --json` prints the verdict; its exit codes are 0, then 1, then 2."""
    target = Target(
        "http://unused", "unused:9", books.dsn, books.gateway_ledger, books.load_ledger.parent
    )
    monkeypatch.setattr(command, "running_lab", lambda _: target)
    monkeypatch.setattr(command, "KafkaReader", lambda _: books.fake)
    root = typer.Typer()
    root.callback()(lambda: None)
    command.register(root)
    arguments = ["reconcile", "--json", "--ledger", str(books.load_ledger), "--deadline", "5"]
    holds = CliRunner().invoke(root, arguments)
    assert holds.exit_code == 0
    assert json.loads(holds.stdout)["result"] == "holds"
    _charge_twice(books)
    books.write()
    violated = CliRunner().invoke(root, arguments)
    assert violated.exit_code == 1
    assert books.orders["happy"] in violated.stdout
    books.gateway_ledger.unlink()
    assert CliRunner().invoke(root, arguments).exit_code == 2


def _partitions(reader: KafkaReader, topics: list[str]) -> int:
    """How many partitions answer; new ones have no leader for a moment."""
    try:
        return len(reader.ends(topics))
    except UnreadableError:
        return 0


def test_the_topic_reader_returns_every_record_of_real_topics(broker: Broker) -> None:
    """All partitions are read from offset 0 to the end, keys, headers and null values included."""
    topic = "order.reconcile-reader"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    wanted = [NewTopic(topic, 3, 1), NewTopic(f"{topic}-empty", 2, 1)]
    for created in admin.create_topics(wanted).values():
        created.result(20)
    reader = KafkaReader(broker.bootstrap)
    topics = [topic, f"{topic}-empty"]
    wait_until(lambda: _partitions(reader, topics) == 5, timeout_s=20, what="five partitions")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(300):
        producer.produce(topic, b"v%d" % number, b"k%d" % (number % 7), headers={"ce_id": b"x"})
    producer.produce(topic, None, b"tombstone", partition=2)
    assert producer.flush(20) == 0
    assert topic in reader.topics()
    assert sum(reader.ends([topic]).values()) == 301
    records = list(reader.read([topic, f"{topic}-empty"]))
    assert len(records) == 301
    assert {record.value for record in records} == {None, *(b"v%d" % n for n in range(300))}
    assert {record.headers.get("ce_id") for record in records} == {b"x", None}
    for partition in range(3):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))


def test_a_broker_that_is_away_makes_the_topics_unread() -> None:
    """No answer from Kafka is an unread source, not an empty topic."""
    with pytest.raises(UnreadableError, match="Kafka"):
        KafkaReader("127.0.0.1:1").topics()
