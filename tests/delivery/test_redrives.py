"""A command that its sender sends again after its consumer gave it up is really tried."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from app.db.inbox import InboxRow, Status
from app.delivery.decoding import to_event
from app.delivery.deduplicate import is_finished
from app.delivery.events import Event
from app.messages import Cause, decode, emit
from app.messages.deadletter import REDRIVES, dead_letter, read_failure, redrive, redriven
from app.messages.envelope import ATTEMPT_MAX, Output
from app.messages.payments import PaymentRefund
from app.topics import PAYMENT_REFUND

pytestmark = pytest.mark.unit

ORDER, COMMAND = "01a1fef0-999d-72e9-83cf-8074090f4986", "4a8c4405-decc-50f8-9e04-0ec3afe37fc8"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
INT4_MAX = 2**31 - 1


def command() -> Output:
    """A refund as the orchestrator sends it the first time."""
    body = PaymentRefund(order_id=ORDER, amount_minor=500, currency="EUR", charge_id=COMMAND)
    return emit(Cause(ORDER, ORDER), PAYMENT_REFUND, body, event_id=COMMAND, now=NOW, source="test")


def record(output: Output, offset: int = 0) -> SimpleNamespace:
    """The output as a consumer reads it."""
    return SimpleNamespace(
        topic=output.topic,
        partition=0,
        offset=offset,
        timestamp=0,
        key=output.key,
        value=output.value,
        headers=tuple(output.headers),
    )


def event(output: Output) -> Event:
    """The event that a handler gets for the output."""
    one = record(output)
    return to_event(one, decode(one.topic, one.headers, one.key, one.value))


def test_a_command_sent_again_is_tried_after_its_dead_letter() -> None:
    """The mark makes a new delivery of it; a mere copy is answered from the inbox."""
    parked = InboxRow(Status.PARKED, 3, b"")
    assert is_finished(parked, event(command()).delivery)
    again = event(redriven(command(), 1))
    assert again.event_id == COMMAND
    assert again.attempt == 0
    assert not is_finished(parked, again.delivery)


def test_each_time_is_a_later_delivery_than_all_retries_of_the_one_before() -> None:
    """Numbers grow with every re-drive, whatever attempts lie between."""
    first, second = event(redriven(command(), 1)), event(redriven(command(), 2))
    assert first.delivery > ATTEMPT_MAX
    assert first.delivery + ATTEMPT_MAX < second.delivery


def test_an_operators_redrive_follows_the_senders() -> None:
    """The dead letter of a command sent again keeps the count, and its redrive goes on from it."""
    letter = dead_letter(
        record(redriven(command(), 4)),
        topic="payment.refund.dlt",
        role="payment",
        error=ValueError("no"),
        attempt=4,
        now=NOW,
    )
    assert event(redrive(record(letter))).delivery == 5 * (ATTEMPT_MAX + 1)


@pytest.mark.parametrize(
    ("raw", "expected"), [(b"", 0), (b"-1", 0), (b"many", 0), (b"7", 7), (b"9" * 19, 99_999)]
)
def test_the_count_of_a_hostile_header_is_bounded(raw: bytes, expected: int) -> None:
    """A delivery number always fits PostgreSQL's int, or the inbox would refuse the event."""
    output = command()
    output.headers.append((REDRIVES, raw))
    assert event(output).delivery == expected * (ATTEMPT_MAX + 1)
    assert event(output).delivery + ATTEMPT_MAX <= INT4_MAX
    assert read_failure(output.headers).redrives == expected
