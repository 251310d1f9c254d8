"""What redriving a dead letter would do: every state of a step, both directions, every answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

import msgspec
import pytest

from app import ids
from app.db.deadletters import DeadLetter
from app.domain import redrive as rule
from app.domain.decision import Incoming
from app.domain.definition import COMPENSATION, FORWARD, PAYMENT, State
from app.domain.fingerprint import fingerprint, normalised
from app.domain.record import Saga, StepRecord, StepStatus
from app.domain.redrive import Facts, Resent, Verdict, verdict
from app.domain.saga import Applied, decide
from app.messages import OrderCancel, OrderStatusChanged, PaymentRefund, PaymentRequested
from app.messages.orders import Item, OrderCreated
from app.messages.payments import PaymentResult
from app.topics import dead_letter_topic
from web.api.payloads import headers_out, hexdump, payload_out

if TYPE_CHECKING:
    from app.messages import Body

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = "0198c0de-7a11-7c0d-9b6e-3f2f6d1f5a01"
CHARGE = PaymentRequested(order_id=ORDER, amount_minor=500, currency="EUR", not_after=NOW)
CHARGE_ID = ids.command_id(ORDER, "payment", FORWARD)
REFUND = PaymentRefund(order_id=ORDER, amount_minor=500, currency="EUR", charge_id=CHARGE_ID)
REFUND_ID = ids.command_id(ORDER, "payment", COMPENSATION)


def begun() -> Saga:
    item = Item(product_id="P-1", quantity=1, unit_price_minor=500)
    created = OrderCreated(order_id=ORDER, customer_id="ada", items=[item], total_minor=500,
                           currency="EUR", created_at=NOW)  # fmt: skip
    decision = decide(None, Incoming(ORDER, created, ORDER), NOW)
    assert isinstance(decision, Applied)
    return decision.saga


def saga(status: StepStatus, *, reason: str = "", **numbers: int) -> Saga:
    """A saga whose payment step stands at `status`."""
    steps = (StepRecord(status=status, **numbers), *(StepRecord() for _ in range(3)))
    state = State.COMPENSATING if reason else State.PAYMENT_PENDING
    return msgspec.structs.replace(begun(), steps=steps, reason=reason, state=state)


def facts(
    topic: str, body: Body | None, event_id: str, *, consumer: str = "payment", done: bool = False
) -> Facts:
    return Facts(topic, consumer, event_id, body, "" if body is not None else "bad_json", done)


FORWARD_ANSWERS = {
    "WAITING": "refused",
    "SENT": "act",
    "PARKED": "act",
    "DONE": "already_done",
    "FAILED": "refused",
    "COMPENSATING": "refused",
    "COMPENSATED": "refused",
}
BACKWARD_ANSWERS = {
    "WAITING": "refused",
    "SENT": "refused",
    "PARKED": "refused",
    "DONE": "refused",
    "FAILED": "refused",
    "COMPENSATING": "act",
    "COMPENSATED": "already_done",
}


def test_the_tables_know_every_status() -> None:
    """A new status of a step must be given its answers here."""
    assert FORWARD_ANSWERS.keys() == BACKWARD_ANSWERS.keys() == set(get_args(StepStatus))


@pytest.mark.parametrize(("status", "answer"), FORWARD_ANSWERS.items())
def test_a_forward_command(status: StepStatus, answer: str) -> None:
    """It acts exactly while its step waits for it and the order goes forward."""
    letter = facts("payment.requested", CHARGE, CHARGE_ID)
    assert verdict(letter, saga(status), NOW).answer == answer
    turned = verdict(letter, saga(status, reason="customer"), NOW)
    assert turned == Verdict("refused", "the order is COMPENSATING (customer)")


@pytest.mark.parametrize(("status", "answer"), BACKWARD_ANSWERS.items())
def test_a_compensation(status: StepStatus, answer: str) -> None:
    """It acts exactly while it is outstanding, which is while the order goes back."""
    letter = facts("payment.refund", REFUND, REFUND_ID)
    assert verdict(letter, saga(status, reason="customer"), NOW).answer == answer


def test_what_is_done_is_done_for_its_consumer() -> None:
    """The inbox settles it before any saga is asked."""
    letter = facts("payment.requested", CHARGE, CHARGE_ID, done=True)
    assert verdict(letter, None, NOW) == Verdict("already_done", "payment has finished it")


def test_another_attempt_or_a_foreign_command_is_refused() -> None:
    """Only the saga's outstanding command may be sent."""
    letter = facts("payment.requested", CHARGE, CHARGE_ID)
    assert "later attempt" in verdict(letter, saga("SENT", attempt=1), NOW).reason
    foreign = facts("payment.requested", CHARGE, ids.event_id(ORDER, "forged"))
    assert "did not send it" in verdict(foreign, saga("SENT"), NOW).reason
    assert verdict(letter, None, NOW) == Verdict("refused", "its order has no saga")
    canary = facts("payment.requested.canary", CHARGE, CHARGE_ID)
    assert verdict(canary, saga("SENT"), NOW).answer == "act"


def test_junk_is_refused_and_says_why() -> None:
    """What cannot be read would only come back."""
    letter = facts("payment.requested", None, "")
    assert verdict(letter, saga("SENT"), NOW) == Verdict("refused", "unreadable: bad_json")


def test_the_saga_judges_what_it_consumes() -> None:
    """Applied, ignored and illegal are act, already done and refused."""

    def said(body: Body, stored: Saga | None) -> str:
        letter = facts("any", body, ids.event_id(ORDER, "x"), consumer="orchestrator")
        return verdict(letter, stored, NOW).answer

    result = PaymentResult(order_id=ORDER, command_id=CHARGE_ID, operation="charge", outcome="OK",
                           state_version=1)  # fmt: skip
    decided = decide(begun(), Incoming(ORDER, result), NOW)
    assert isinstance(decided, Applied)
    assert said(result, begun()) == "act"
    assert said(result, decided.saga) == "already_done"
    assert said(result, None) == "refused"
    assert said(OrderCancel(order_id=ORDER), begun()) == "act"


def test_others_would_take_it_in() -> None:
    """A notice to a consumer without a saga acts."""
    body = OrderStatusChanged(order_id=ORDER, status="COMPLETED", saga_version=9)
    letter = facts("order.status_changed", body, ORDER, consumer="notification")
    assert verdict(letter, None, NOW).answer == "act"


def test_an_edited_command_keeps_its_id_or_is_refused() -> None:
    """Only what the saga waits for, whatever deadline is written; with a deadline from now."""
    later = msgspec.structs.replace(CHARGE, not_after=NOW + timedelta(days=9))
    made = rule.as_command(saga("PARKED"), "payment.requested", later, NOW)
    assert isinstance(made, Resent)
    assert made.command_id == CHARGE_ID
    assert isinstance(made.body, PaymentRequested)
    assert NOW < made.body.not_after < later.not_after
    other = msgspec.structs.replace(CHARGE, amount_minor=1)
    for body, topic, stored in (
        (other, "payment.requested", saga("PARKED")),
        (CHARGE, "payment.refund", saga("PARKED")),
        (CHARGE, "payment.requested", saga("WAITING")),
        (CHARGE, "payment.requested", None),
    ):
        assert isinstance(rule.as_command(stored, topic, body, NOW), Verdict)


def test_an_edit_has_one_id_per_letter_and_content() -> None:
    """Two operators who write the same have written one message."""
    assert rule.edited_id(ORDER, b"a") == rule.edited_id(ORDER, b"a")
    assert (
        len({rule.edited_id(one, what) for one in (ORDER, CHARGE_ID) for what in (b"a", b"b")}) == 4
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("status 500", "status 503"),
        (f"order {ORDER} failed", f"order {CHARGE_ID} failed"),
        ("at 2026-01-01T00:00:00Z", "at 2026-11-28 16:02:19.5+01:00"),
        ("refused 10.0.0.1:5432", "refused 10.0.0.2:5433"),
        ("at 0x7f3d6bfea550", "at 0x7f3d6bfea551"),
        ("trace 4bf92f3577b34da6", "trace 00f067aa0ba902b7"),
    ],
)
def test_numbers_ids_and_times_do_not_split_a_group(one: str, other: str) -> None:
    """One fault that hits many orders is one group."""
    assert normalised(one) == normalised(other)
    assert fingerprint("c", "t", "e", one) == fingerprint("c", "t", "e", other)


def test_words_consumer_topic_and_class_do_split() -> None:
    """Different causes stay apart."""
    base = ("c", "t", "e", "silent past the deadline")
    others = [(*base[:at], base[at] + "x", *base[at + 1 :]) for at in range(4)]
    assert len({fingerprint(*one) for one in (base, *others)}) == 5
    assert "defaced" in normalised("defaced")


@pytest.mark.parametrize(
    "name",
    ["payment.requested.dlt", "payment.requested-dlt", "payment.requested.DLT", "payment.requested",
     "payment.requested.dlq", "payment.dlq"],
)  # fmt: skip
def test_older_spellings_of_a_dead_letter_topic(name: str) -> None:
    """Each names ours."""
    assert dead_letter_topic(name) == "payment.requested.dlt"


@pytest.mark.parametrize("name", ["", ".dlt", "nothing.dlt", "chaos.rules", "../x", "payment"])
def test_no_dead_letter_topic(name: str) -> None:
    """Unknown names are none, `payment` being the one older name."""
    expected = "payment.requested.dlt" if name == "payment" else None
    assert dead_letter_topic(name) == expected


def test_payloads_are_shown_as_what_they_are() -> None:
    """JSON, text, or a hex dump; bounded, and cut between characters."""

    def shown(value: bytes) -> dict[str, object]:
        made = msgspec.json.encode(payload_out(value, 16))
        decoded: dict[str, object] = msgspec.json.decode(made)
        return decoded

    assert shown(b'{"a": 1}') == {"bytes": 8, "json": {"a": 1}}
    assert shown("naïve".encode()) == {"bytes": 6, "text": "naïve"}
    assert shown(b"x" * 15 + "é".encode() + b"y") == {
        "bytes": 18, "text": "x" * 15, "truncated": True}  # fmt: skip
    assert shown(b"\xff\x00A") == {
        "bytes": 3, "hexdump": "00000000  ff 00 41" + " " * 39 + "  |..A|"}  # fmt: skip
    assert payload_out(None, 16) is None
    assert hexdump(bytes(range(32))).count("\n") == 1
    headers = [
        (one.text, one.hex) for one in headers_out([("a", b"b"), ("c", b"\xff"), ("d", None)], 9)
    ]
    assert headers == [("b", None), (None, "ff"), (None, None)]


def test_exact_headers_survive_their_storage() -> None:
    """Junk, nulls and repeated names come back to the byte."""
    from app.db.deadletters import pack_headers

    raw = [("a", b"\xff\x00"), ("a", None), ("é", b"")]
    letter = DeadLetter("t.dlt", 0, 1, "t", 0, 1, "c", "", "e", "m", [], None, None, NOW, NOW,
                        pack_headers(raw))  # fmt: skip
    assert letter.exact_headers() == raw


def test_the_step_used_here_is_the_payment_step() -> None:
    """The tables above speak of the definition's own topics."""
    assert PAYMENT.topic == "payment.requested"
    assert rule.is_command("payment.refund")
    assert not rule.is_command("order.created")
