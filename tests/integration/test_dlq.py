"""Role dlq: what goes back to its topic when, and what the index makes of any record."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.dlq import DeadLetterIndex, Redelivery, letter
from app.clock import ManualClock
from app.db import deadletters
from app.db.dead_letter_selection import Selection, open_letters
from app.db.engine import statement
from app.delivery.decoding import bury, raw_events
from app.errors import GatewayUnavailable, Poison
from app.messages import Cause, PaymentRequested, deadletter, decode, emit
from app.topics import PAYMENT_REQUESTED
from tests.integration.participants import NOW, SOON, apply, opened, order, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.messages import Output

pytestmark = pytest.mark.integration

DELAY_S = 5
TRUNCATE = statement("truncate ops.dead_letter")


def consumed(output: Output, *, offset: int = 7) -> ConsumerRecord:
    """An output as its consumer sees it."""
    partition = output.partition or 0
    return made(output.topic, output.headers, output.key, output.value, partition, offset)


def made(
    topic: str,
    headers: Sequence[tuple[str, Any]],
    key: bytes | None = b"key",
    value: bytes | None = b"value",
    partition: int = 3,
    offset: int = 7,
) -> ConsumerRecord:
    return ConsumerRecord(
        topic, partition, offset, 1_767_268_800_000, 0, key, value, None, 0, 0, tuple(headers)
    )


def command() -> ConsumerRecord:
    order_id = order()
    body = PaymentRequested(order_id=order_id, amount_minor=5, currency="EUR", not_after=SOON)
    cause = Cause(order_id, order_id)
    output = emit(cause, PAYMENT_REQUESTED, body, event_id=order_id, now=NOW, source="test")
    return consumed(output)


def retried(record: ConsumerRecord, attempt: int = 1) -> ConsumerRecord:
    """The record on its retry tier."""
    output = deadletter.retry(
        record,
        tier="retry.5s",
        role="payment",
        error=GatewayUnavailable("status 500"),
        attempt=attempt,
        due_at=NOW + timedelta(seconds=DELAY_S),
        now=NOW,
    )
    return consumed(output, offset=99)


def redelivery() -> Redelivery:
    return Redelivery(ManualClock(NOW), DELAY_S)


async def test_due_record_goes_back_as_it_came(database: str) -> None:
    """Same topic, partition, key, id and body; the attempt and the first failure are kept."""
    original = command()
    events = raw_events([retried(original), retried(retried(original), attempt=2)])
    async with opened(database) as db:
        applied = await apply(db, redelivery(), *events)
    for attempt, one in enumerate(applied, start=1):
        (output,) = one.outputs
        assert (output.topic, output.key, output.value) == (
            original.topic,
            original.key,
            original.value,
        )
        assert output.partition == original.partition
        again = decode(output.topic, output.headers, output.key, output.value)
        first = decode(original.topic, original.headers, original.key, original.value)
        assert (again.event_id, again.body, again.attempt) == (first.event_id, first.body, attempt)
        assert again.retry_role == "payment"
        assert deadletter.read_failure(output.headers).first_failed_at == NOW


def test_records_wait_until_due() -> None:
    """A record is due at the time it names."""
    (event,) = raw_events([retried(command())])
    assert redelivery().due_at(event) == NOW + timedelta(seconds=DELAY_S)


@pytest.mark.parametrize("due", [b"9999-12-31T00:00:00Z", b"2099-01-01T00:00:00Z"])
def test_no_record_blocks_its_tier(due: bytes) -> None:
    """A forged due time in the far future waits no longer than the tier's own delay."""
    (event,) = raw_events([made("retry.5s", [("x-due-at", due)])])
    assert redelivery().due_at(event) == NOW + timedelta(seconds=DELAY_S)


@pytest.mark.parametrize("due", [b"soon", b"", b"\xff", None])
def test_unreadable_due_time_is_due_at_once(due: bytes | None) -> None:
    """A record that does not say when is not held."""
    (event,) = raw_events([made("retry.5s", [("x-due-at", due)])])
    assert redelivery().due_at(event) is None


async def test_record_without_origin_is_poison(database: str) -> None:
    """Junk on a retry tier is refused alone; it has no topic to go back to."""
    async with opened(database) as db:
        with pytest.raises(Poison, match="x-original-topic"):
            await apply(db, redelivery(), *raw_events([made("retry.5s", [])]))


async def test_dead_letter_is_indexed_once(database: str) -> None:
    """The index names origin, consumer, id, error and time, and keeps the raw bytes."""
    record = command()
    output = deadletter.dead_letter(
        record,
        topic="payment.requested.dlt",
        role="payment",
        error=GatewayUnavailable("status 500"),
        attempt=4,
        now=NOW,
    )
    events = raw_events([consumed(output, offset=11)])
    async with opened(database) as db:
        await apply(db, DeadLetterIndex(), *events)
        await apply(db, DeadLetterIndex(), *events)
        (found,) = await deadletters.peek(db, "payment.requested.dlt", 10)
    assert (found.topic, found.offset) == ("payment.requested.dlt", 11)
    assert (found.origin_topic, found.origin_offset) == (record.topic, record.offset)
    assert (found.consumer, found.error_class) == ("payment", "gateway_unavailable")
    assert found.event_id == record.key.decode()
    assert (found.key, found.value) == (record.key, record.value)
    assert found.first_failed_at == NOW


def test_unreadable_record_becomes_a_dead_letter() -> None:
    """A record that no handler can see is parked under an id of its position."""
    record = made("payment.requested", [("ce_id", b"junk")], b"\xff", b"\xff")
    first = bury(record, Poison("bad_header", "ce_type"), role="payment", now=NOW)
    again = bury(record, Poison("bad_header", "ce_type"), role="payment", now=NOW)
    assert first == again
    assert first.outputs[0].topic == "payment.requested.dlt"
    other = made("payment.requested", [], offset=8)
    assert bury(other, Poison("null_key"), role="payment", now=NOW).event_id != first.event_id


HEADER_NAMES = st.sampled_from(
    ["ce_id", "x-original-topic", "x-original-partition", "x-original-offset", "x-first-failed-at",
     "x-retry-role", "x-error-class", "x-error-message", "traceparent"]
)  # fmt: skip
HEADER_VALUES = (
    st.none()
    | st.sampled_from(
        [
            b"\0",
            b"9999999999999999999",
            b"-1",
            b"0001-01-01T00:00:00+14:00",
            b"9999-12-31T23:59:59Z",
        ]
    )
    | st.binary(max_size=30)
)
JUNK = st.builds(
    made,
    st.just("payment.requested.dlt"),
    st.lists(st.tuples(HEADER_NAMES | st.text(max_size=5), HEADER_VALUES), max_size=12),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
    st.just(0),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(junk=st.lists(JUNK, min_size=1, max_size=20))
async def test_index_takes_any_record(database: str, junk: list[ConsumerRecord]) -> None:
    """Whatever stands on a dead-letter topic can be indexed and read back."""
    letters = [letter(event, NOW) for event in raw_events(junk)]
    async with opened(database) as db:
        async with db.transaction() as tx:
            for number, one in enumerate(letters):
                await deadletters.record(tx, [one._replace(offset=number)])
        async with db.transaction() as tx:
            found = await open_letters(tx, Selection(), 100)
        assert len(found) == len(letters)
        await db.execute(TRUNCATE)
    assert rows(database, "select 1 from ops.dead_letter") == []
