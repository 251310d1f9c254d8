"""The auditor holds on consistent books and finds every planted defect, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos.auditor import views
from chaos.auditor.invariants import CATALOGUE, Book, Kind
from chaos.auditor.report.page import page
from chaos.auditor.report.text import sentence, text
from chaos.auditor.store import Store
from chaos.auditor.verdict import State
from tests.auditor.books import document_of, fill, orders, plant, verdict_of
from tests.auditor.planted import COPIED_LETTER, DEFECTS, WAIVED, Defect, fell, told


@pytest.fixture(scope="module")
def filled() -> Iterator[Store]:
    """One store with the recorded books."""
    with Store() as store:
        fill(store)
        yield store


@pytest.fixture
def books(filled: Store) -> Iterator[Store]:
    """The recorded books; whatever a test changes is taken back."""
    filled.execute("begin")
    yield filled
    filled.execute("rollback")


def violated(store: Store) -> dict[str, tuple[str, ...]]:
    """Violated invariants with the items and orders of their witnesses."""
    return {
        one.invariant.id: tuple(f"{w.item} {w.order_id}" for w in one.witnesses)
        for one in verdict_of(store).in_state(State.VIOLATED)
    }


def test_consistent_books_hold_and_every_invariant_examined_something(books: Store) -> None:
    """No false alarm, and no invariant was idle."""
    verdict = verdict_of(books)
    assert (verdict.result, verdict.exit_code) == ("holds", 0), violated(books)
    assert all(one.examined for one in verdict.findings)
    assert {verdict.of(kind) for kind in Kind} == {"holds"}


def test_a_purge_is_no_loss(books: Store) -> None:
    """What the index tells of and the topic no longer holds was deleted, not lost."""
    plant(
        books,
        "update letter_index n set event_id = r.event_id, order_id = r.order_id, at_s = r.at_s"
        " from record r where r.topic = n.topic and r.partition = n.partition"
        ' and r."offset" = n."offset";'
        "update log_end set first_offset = before_offset where topic like '%.dlt';"
        "delete from record where topic like '%.dlt'",
    )
    assert violated(books) == {}


def test_a_letter_that_was_published_twice_is_counted_once(books: Store) -> None:
    """Its copy is indexed, and moves no service level; nor does it when the first was purged."""
    plant(books, COPIED_LETTER)
    assert violated(books) == {}
    plant(
        books,
        "update log_end e set first_offset = 1000 from record r where r.topic = e.topic"
        " and r.partition = e.partition and r.topic = 'payment.requested.dlt'"
        ' and r."offset" >= 1000;'
        "delete from record where topic = 'payment.requested.dlt' and order_id = $parked"
        ' and "offset" < 1000',
    )
    assert violated(books) == {}


def test_an_edited_letter_is_no_phantom(books: Store) -> None:
    """What an operator published in a letter's place is known by the audit log, and only by it."""
    plant(
        books,
        "insert into record by name select * replace ('00000000-0000-0000-0000-00000000ed17'::uuid"
        ' as event_id, "offset" + 100000 as "offset") from record'
        " where topic = 'order.cancel' and type = 'order.cancel.v1' limit 1;"
        "insert into inbox by name select * replace ('00000000-0000-0000-0000-00000000ed17'::uuid"
        " as event_id) from inbox where topic = 'order.cancel' limit 1;"
        "update log_end set before_offset = 999999 where topic = 'order.cancel'",
    )
    assert set(violated(books)) == {"X2"}
    plant(
        books,
        "insert into act by name select '00000000-0000-0000-0000-00000000ed17'::uuid as"
        " event_id, 'dead_letter.edit' as action",
    )
    assert violated(books) == {}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name.replace(" ", "-"))
def test_a_planted_defect_is_caught_by_its_invariant_and_no_other(
    books: Store, defect: Defect
) -> None:
    """The intended invariant is violated, with witnesses; nothing beyond the defect is."""
    plant(books, defect.sql)
    found = violated(books)
    assert set(found) == set(defect.caught_by)
    assert found[defect.caught_by[0]]


@pytest.mark.parametrize("defect", WAIVED, ids=lambda defect: defect.name.replace(" ", "-"))
def test_a_waiver_excuses_what_it_explains_and_nothing_else(books: Store, defect: Defect) -> None:
    """An operator answers for one command of one order; what else is wrong is still found."""
    plant(books, defect.sql)
    assert set(violated(books)) == set(defect.caught_by)


def test_a_waiver_is_named_with_who_and_why(books: Store) -> None:
    """The verdict holds, and says what it holds in spite of."""
    plant(books, WAIVED[0].sql)
    told = document_of(books)
    waiver = {"order": orders()["refused"], "skipped": "refund", "who": "eve", "why": "by letter"}
    assert (told["result"], told["waivers"]) == ("holds", [waiver])
    assert ", 1 command given up by operators: " in sentence(told)
    for form in (text(told), page(told)):
        assert all(word in form for word in waiver.values())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param("", set(), id="taken"),
        pytest.param("delete from gateway where order_id = $happy", set(), id="not-taken"),
        pytest.param("update gateway set amount_minor = amount_minor + 1 where order_id = $happy",
                     {"P4", "P6"}, id="another-amount"),
        pytest.param("update saga set state = 'CANCELLED' where order_id = $happy",
                     {"P4", "P6"}, id="not-parked"),
    ],
)  # fmt: skip
def test_a_parked_order_whose_charge_was_not_answered_may_have_been_charged(
    books: Store, change: str, found: set[str]
) -> None:
    """The provider and PostgreSQL may differ on it, in one way only, while it is parked."""
    plant(
        books,
        "update attempt set status = 'INTENT' where order_id = $happy;"
        f"update saga set state = 'PARKED' where order_id = $happy;{change}",
    )
    assert set(violated(books)) & {"P4", "P6"} == found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param("", set(), id="given-back"),
        pytest.param("delete from gateway where order_id = $refused and op = 'refund'", set(),
                     id="not-given-back"),
        pytest.param("update saga set state = 'CANCELLED' where order_id = $refused",
                     {"P4", "P6"}, id="not-parked"),
        pytest.param("update attempt set status = 'CHARGED' where order_id = $refused",
                     {"P4", "P6"}, id="no-refund-asked-for"),
        pytest.param("delete from gateway where order_id = $refused", {"P4", "P6"},
                     id="never-charged"),
        pytest.param("update gateway set amount_minor = amount_minor - 1"
                     " where order_id = $refused and op = 'refund'", {"P4", "P6"}, id="in-part"),
    ],
)  # fmt: skip
def test_a_parked_order_whose_refund_was_not_answered_may_have_been_refunded(
    books: Store, change: str, found: set[str]
) -> None:
    """The provider and PostgreSQL may differ on it, in one way only, while it is parked."""
    plant(
        books,
        "update attempt set status = 'REFUNDING' where order_id = $refused;"
        f"update saga set state = 'PARKED' where order_id = $refused;{change}",
    )
    assert set(violated(books)) & {"P4", "P6"} == found


def test_what_a_chaos_rule_lost_is_no_silent_skip(books: Store) -> None:
    """It is written down; a skip of another consumer, or of another record, is found as ever."""
    skip = next(one for one in DEFECTS if one.name == "silent skip")
    plant(books, skip.sql)
    for consumer, expected in (("inventory", {"E1", "E2"}), ("orchestrator", set())):
        books.execute(
            f"insert into loss select '{consumer}', topic, partition, \"offset\", 'rule', at_s"
            f" from record where topic = 'shipping.result' and order_id = '{orders()['happy']}'"
        )
        assert set(violated(books)) == expected


def test_what_happens_again_is_told_again(books: Store) -> None:
    """A level after each restock, a rule each time it is laid down: that is no telling twice."""
    for restocked in (100, 200):
        plant(books, fell("MUTE", restocked))
        plant(books, told("MUTE", "stock_low", str(restocked)))
        plant(books, told("slow", "chaos_injected", str(restocked)))
    assert "N1" not in violated(books)


NOTIFIER_READS = """
insert into consumes by name select 'notification' as consumer, unnest(['order.created',
       'order.reviewed', 'order.cancel', 'payment.result', 'inventory.result', 'shipping.result',
       'order.status_changed', 'stock.low']) as topic, false as raw;
insert into inbox by name
select distinct 'notification' as consumer, event_id, 0 as status, 0 as attempt, topic, partition,
       "offset" from record
 where topic in ('order.created', 'order.reviewed', 'order.cancel', 'stock.low')
    or outcome = 'PARKED' or type = 'barrier.v1'
    or (topic, outcome) in (('payment.result', 'DECLINED'), ('inventory.result', 'OUT_OF_STOCK'),
                            ('shipping.result', 'REFUSED'))
    or (topic, operation, outcome) in (('shipping.result', 'ship', 'OK'),
                                       ('payment.result', 'charge', 'OK'))
    or status in ('COMPLETED', 'CANCELLED', 'REJECTED', 'PARKED');
delete from inbox where event_id is null;
insert into loss select 'notification', topic, partition, "offset", 'junk', at_s
  from record where event_id is null;
"""


@pytest.mark.parametrize(
    ("skipped", "found"),
    [
        pytest.param("false", set(), id="nothing"),
        pytest.param("topic = 'shipping.result'", {"E1"}, id="shipped"),
        pytest.param("topic = 'payment.result'", {"E1"}, id="charged"),
        pytest.param("status = 'COMPLETED'", {"E1"}, id="completed"),
    ],
)
def test_the_notifier_takes_in_what_is_told_and_no_more(
    books: Store, skipped: str, found: set[str]
) -> None:
    """Of most steps of an order nobody is told, and no inbox row speaks of them."""
    plant(
        books,
        f"{NOTIFIER_READS}delete from inbox where consumer = 'notification' and event_id in"
        f" (select event_id from record where order_id = $happy and {skipped})",
    )
    assert set(violated(books)) == found


DAMAGED = """
insert into record select * replace (90000 as "offset", at_s + 1 as at_s, false as readable,
       'damaged' as body_hash)
  from record where order_id = $happy and topic = 'payment.result' limit 1;
insert into record select * replace ('payment.result.dlt' as topic, 'orchestrator' as retry_role,
       'payment.result' as origin_topic, partition as origin_partition, 90000 as origin_offset,
       'poison' as error)
  from record where topic = 'payment.result' and "offset" = 90000;
insert into letter_index select topic, partition, "offset", origin_topic, origin_partition,
       origin_offset, retry_role, event_id, order_id, at_s from letter where origin_offset = 90000;
"""


def test_a_damaged_copy_beside_the_intact_event_is_no_violation(books: Store) -> None:
    """The copy is a dead letter, the event itself was taken in; without it that is a violation."""
    plant(books, DAMAGED)
    assert violated(books) == {}
    plant(books, "update record set readable = false where order_id = $happy"
                 " and topic = 'payment.result'")  # fmt: skip
    assert {"D2", "E4"} <= set(violated(books))


def test_every_invariant_is_broken_by_some_defect() -> None:
    """An invariant that no defect breaks might be one that cannot fail."""
    intended = {defect.caught_by[0] for defect in DEFECTS}
    assert intended == {one.id for one in CATALOGUE}


def test_the_witness_is_the_order_and_brings_its_timeline(books: Store) -> None:
    """All books tell of the order, in the order of time, faults of that time included."""
    order_id = orders()["happy"]
    plant(books, next(one.sql for one in DEFECTS if one.name == "charged twice"))
    finding = next(one for one in verdict_of(books).findings if one.invariant.id == "P1")
    witness = finding.witnesses[0]
    assert witness.order_id == order_id
    assert witness.wrong.startswith("2 charges of ")
    told = {one.book for one in witness.timeline}
    assert {"client", "orders", "history", "saga", "payments", "inventory", "shipping",
            "gateway", "topics", "inbox"} <= told  # fmt: skip
    times = [one.at_s for one in witness.timeline]
    assert times == sorted(times)


def test_one_missing_book_makes_its_invariants_unknown_and_no_others(books: Store) -> None:
    """What could not be read is never reported as holding; exit code 2."""
    for book in Book:
        verdict = verdict_of(books, unread={book: "away"})
        unknown = {one.invariant.id for one in verdict.in_state(State.UNKNOWN)}
        assert unknown == {one.id for one in CATALOGUE if book in one.needs}
        assert verdict.exit_code == 2
        assert verdict.unread == {book.value: "away"}


def test_without_rest_liveness_is_violated_and_safety_is_still_judged(books: Store) -> None:
    """What only rest can show is unknown; what must always hold is judged."""
    verdict = verdict_of(books, unrest="7 orders on their way")
    assert (verdict.of(Kind.LIVENESS), verdict.of(Kind.SAFETY)) == ("violated", "unknown")
    assert verdict.exit_code == 1
    unknown = {one.invariant.id for one in verdict.in_state(State.UNKNOWN)}
    assert unknown == {one.id for one in CATALOGUE if one.at_rest}
    plant(books, next(one.sql for one in DEFECTS if one.name == "charged twice"))
    assert verdict_of(books, unrest="still").of(Kind.SAFETY) == "violated"


def test_nothing_to_examine_is_unknown_not_holding() -> None:
    """An empty platform proves nothing, whatever was not found in it."""
    with Store() as store:
        views.prepare(store)
        verdict = verdict_of(store)
    assert (verdict.result, verdict.exit_code) == ("unknown", 2)
    optional = {one.id for one in CATALOGUE if one.optional}
    assert {one.invariant.id for one in verdict.in_state(State.VACUOUS)} == optional
