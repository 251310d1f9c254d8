"""Ids, clocks, topics, errors, emitted records and failed ones."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import errors, ids, topics
from app.clock import Clock, ManualClock, SystemClock
from app.errors import Definite, GatewayTimeout, Indefinite, Poison, SymphonyError
from app.messages import Cause, OrderCancel, StockLow, deadletter, decode, emit
from app.messages.deadletter import dead_letter, read_failure, redeliver, redrive, retry
from app.trace_context import child, derived, is_sampled, span_of

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ORDER = ids.uuid5("0" * 32, "order")


class Record(NamedTuple):
    """A consumed record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


def record(value: bytes | None = b"{}", headers: Any = ()) -> Record:
    """Return a record of payment.requested."""
    return Record("payment.requested", 2, 41, 1_700_000_000_123, ORDER.encode(), value, headers)


# -- ids -----------------------------------------------------------------------------------------


@given(space=st.uuids(), name=st.text())
def test_uuid5_is_that_of_the_standard(space: uuid.UUID, name: str) -> None:
    """The fast computation agrees with the standard library."""
    assert ids.uuid5(str(space), name) == str(uuid.uuid5(space, name))


def test_command_ids_name_step_direction_and_attempt() -> None:
    """The first attempt has no number, later ones do."""
    space = uuid.UUID(ORDER)
    assert ids.command_id(ORDER, "payment", "forward") == str(uuid.uuid5(space, "payment:forward"))
    assert ids.command_id(ORDER, "payment", "compensation", 2) == str(
        uuid.uuid5(space, "payment:compensation:2")
    )


def test_result_ids_differ_by_state_version_and_notices_by_occasion() -> None:
    """A later outcome is a new event; so is a later retry; a repeat is not."""
    assert ids.result_id(ORDER, 1) != ids.result_id(ORDER, 2)
    assert ids.notice_id(ORDER, "RETRYING", 1, NOW) == ids.notice_id(ORDER, "RETRYING", 1, NOW)
    later = NOW + timedelta(seconds=1)
    assert ids.notice_id(ORDER, "RETRYING", 1, NOW) != ids.notice_id(ORDER, "RETRYING", 1, later)


def test_ids_refuse_what_is_no_uuid() -> None:
    """A wrong namespace is an error, not another id."""
    with pytest.raises(ValueError, match="UUID"):
        ids.uuid5("abcd", "x")
    assert ids.is_uuid(ORDER)
    assert not ids.is_uuid(ORDER.upper())


@given(st.uuids())
def test_id_bytes_round_trip(value: uuid.UUID) -> None:
    """Table keys are the sixteen bytes."""
    assert ids.to_bytes(str(value)) == value.bytes
    assert ids.from_bytes(value.bytes) == str(value)


# -- clock ---------------------------------------------------------------------------------------


def test_clocks_tell_aware_time() -> None:
    """Both clocks fit the protocol; the manual one moves only when told, and never back."""
    clocks: list[Clock] = [SystemClock(), ManualClock(NOW)]
    assert all(clock.now().tzinfo is UTC for clock in clocks)
    assert clocks[0].monotonic() <= clocks[0].monotonic()
    manual = ManualClock(NOW)
    manual.advance(1.5)
    assert (manual.now() - NOW, manual.monotonic()) == (timedelta(seconds=1.5), 1.5)
    with pytest.raises(ValueError, match="back"):
        manual.advance(-1)


# -- errors --------------------------------------------------------------------------------------


def test_every_error_is_of_one_kind_with_a_code_of_its_own() -> None:
    """Definite, indefinite or poison; codes are unique and documented."""
    classes = list(errors.catalogue())
    codes = [cls.code for cls in classes]
    assert len(codes) == len(set(codes))
    for cls in classes:
        kinds = [kind for kind in (Definite, Indefinite, Poison) if issubclass(cls, kind)]
        assert len(kinds) == (0 if cls is SymphonyError else 1)
        assert f"`{cls.code}`" in errors.reference()


def test_errors_show_their_code() -> None:
    """Logs and headers show code and detail."""
    assert str(GatewayTimeout()) == "gateway_timeout"
    assert str(Poison("bad_json", "byte 3")) == "poison: bad_json (byte 3)"


# -- topics --------------------------------------------------------------------------------------


def test_topics_have_their_retention_and_partitions() -> None:
    """Order topics a week, dead letters a month, all keyed ones the same partition count."""
    order, dead = topics.ORDER_CREATED, topics.CATALOGUE["order.created.dlt"]
    assert order.config() == {
        "cleanup.policy": "delete",
        "compression.type": "uncompressed",
        "max.message.bytes": "1048576",
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": "604800000",
    }
    assert dead.config()["retention.ms"] == "2592000000"
    keyed = topics.CATALOGUE.keys() - topics.CONTROL_TOPICS.keys()
    assert {topics.CATALOGUE[name].partition_count(4) for name in keyed} == {4}


def test_topic_names_are_derived_in_one_place() -> None:
    """Dead letters, tiers and changelogs, and the older spellings of dead letters."""
    assert topics.dlt_of("order.created") == topics.dlt_of("order.created.dlt")
    assert topics.retry_tier(5).name == "retry.5s"
    changelog = topics.changelog_of("symphony", "payment", "payment_idempotency")
    assert changelog.name == "symphony-payment-payment_idempotency-changelog"
    assert changelog.config()["cleanup.policy"] == "compact"
    assert "retention.ms" not in changelog.config()
    foreign = ["x.dlt", "x-dlt", "x.DLT", "payment.dlq", "x"]
    assert [topics.is_dead_letter(name) for name in foreign] == [True] * 4 + [False]


# -- emitting ------------------------------------------------------------------------------------


def test_an_event_carries_its_cause() -> None:
    """Correlation and trace go on, the causation is the cause's id."""
    cause = Cause(ORDER, "request-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    body = OrderCancel(order_id=ORDER)
    output = emit(cause, topics.ORDER_CANCEL, body, event_id=ORDER, now=NOW, source="/x")
    headers = dict(output.headers)
    assert headers["ce_correlationid"] == b"request-1"
    assert headers["ce_causationid"] == ORDER.encode()
    assert headers["traceparent"].decode() == child(cause.traceparent, span_of(ORDER))
    assert headers["ce_time"] == b"2026-01-02T03:04:05.678901Z"
    assert (output.key, output.partition) == (ORDER.encode(), None)


def test_without_a_trace_one_is_derived() -> None:
    """All events of one correlation share a trace; the trace is valid and unsampled."""
    body = OrderCancel(order_id=ORDER)
    cause = Cause(ORDER, "request-1")
    output = emit(cause, topics.ORDER_CANCEL, body, event_id=ORDER, now=NOW, source="/x")
    decoded = decode("order.cancel", output.headers, output.key, output.value)
    assert decoded.traceparent == derived("request-1", span_of(ORDER))
    assert not is_sampled(decoded.traceparent)


def test_vendors_state_goes_on_with_the_trace() -> None:
    """From cause to event to cause; never without a trace, and not when it is malformed."""
    body = OrderCancel(order_id=ORDER)
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    cause = Cause(ORDER, "request-1", parent, "vendor=1")
    output = emit(cause, topics.ORDER_CANCEL, body, event_id=ORDER, now=NOW, source="/x")
    assert dict(output.headers)["tracestate"] == b"vendor=1"
    assert decode("order.cancel", output.headers, output.key, output.value).tracestate == "vendor=1"
    for name, value in (("traceparent", b"junk"), ("tracestate", b"no list")):
        headers = [*(pair for pair in output.headers if pair[0] != name), (name, value)]
        assert decode("order.cancel", headers, output.key, output.value).tracestate == ""


def test_a_body_on_a_wrong_topic_is_an_error() -> None:
    """A programming mistake does not leave the process."""
    body = StockLow(sku="a", available=1)
    with pytest.raises(ValueError, match="does not belong"):
        emit(Cause(ORDER, ""), topics.ORDER_CANCEL, body, event_id=ORDER, now=NOW, source="/x")


# -- failed records ------------------------------------------------------------------------------


def test_a_failed_record_says_where_it_came_from_and_why() -> None:
    """Origin, error, attempt and times; key, value, partition and foreign headers as they were."""
    source = record(b"\xff", [("ce_id", b"x"), ("odd", None), ("odd", b"2")])
    output = dead_letter(
        source,
        topic="payment.requested.dlt",
        role="payment",
        error=Poison("bad_json", "byte 0"),
        attempt=1,
        now=NOW,
    )
    assert (output.topic, output.key, output.value, output.partition) == (
        "payment.requested.dlt",
        source.key,
        b"\xff",
        2,
    )
    assert output.headers[:3] == [("ce_id", b"x"), ("odd", b""), ("odd", b"2")]
    failure = read_failure(output.headers)
    assert failure.original_topic == "payment.requested"
    assert (failure.original_partition, failure.original_offset) == (2, 41)
    assert failure.original_timestamp_ms == 1_700_000_000_123
    assert (failure.error_class, failure.error_reason) == ("poison", "bad_json")
    assert failure.error_message == "poison: bad_json (byte 0)"
    assert (failure.attempt, failure.retry_role) == (1, "payment")
    assert failure.first_failed_at == NOW.replace(microsecond=678000)


def test_headers_are_replaced_and_the_first_failure_is_kept() -> None:
    """A second failure counts on; its record has each header once and the first origin."""
    due_at = NOW + timedelta(seconds=5)
    waiting = retry(
        record(),
        tier="retry.5s",
        role="payment",
        error=GatewayTimeout("slow"),
        attempt=1,
        due_at=due_at,
        now=NOW,
    )
    assert read_failure(waiting.headers).due_at == due_at.replace(microsecond=678000)
    back = redeliver(as_record(waiting))
    assert back.topic == "payment.requested"
    assert "x-due-at" not in dict(back.headers)
    again = dead_letter(
        as_record(back, offset=99),
        topic="payment.requested.dlt",
        role="payment",
        error=GatewayTimeout("slower"),
        attempt=2,
        now=NOW + timedelta(minutes=1),
    )
    names = [name for name, _ in again.headers]
    assert len(names) == len(set(names))
    failure = read_failure(again.headers)
    assert (failure.original_offset, failure.attempt) == (41, 2)
    assert failure.error_message == "gateway_timeout: slower"
    assert failure.first_failed_at == NOW.replace(microsecond=678000)


def as_record(output: Any, offset: int = 7) -> Record:
    """Return an output as its consumer sees it."""
    return Record(
        output.topic, output.partition, offset, 0, output.key, output.value, output.headers
    )


def test_a_redrive_starts_attempts_anew_and_restamps_the_deadline() -> None:
    """Ids and key stay, attempts are gone, redrives are counted, unknown fields survive."""
    source = record(b'{"order_id":"x","not_after":"2020-01-01T00:00:00Z","later":1}')
    dead = dead_letter(
        source,
        topic="payment.requested.dlt",
        role="payment",
        error=GatewayTimeout(),
        attempt=4,
        now=NOW,
    )
    first = redrive(as_record(dead), not_after=NOW)
    failure = read_failure(first.headers)
    assert (first.topic, failure.attempt, failure.redrives) == ("payment.requested", 0, 1)
    assert failure.error_class == ""
    assert first.value == b'{"order_id":"x","not_after":"2026-01-02T03:04:05.678901Z","later":1}'
    second_death = dead_letter(
        as_record(first),
        topic="payment.requested.dlt",
        role="payment",
        error=GatewayTimeout(),
        attempt=4,
        now=NOW,
    )
    assert read_failure(redrive(as_record(second_death)).headers).redrives == 2


@pytest.mark.parametrize("value", [None, b"\xff", b"[1]", b'{"a":1}'])
def test_a_redrive_keeps_values_it_cannot_restamp(value: bytes | None) -> None:
    """Only a command with a deadline is changed."""
    headers = [("x-original-topic", b"payment.requested")]
    assert redrive(record(value, headers), not_after=NOW).value == value


def test_a_record_without_origin_cannot_go_back() -> None:
    """Nobody guesses where a record came from."""
    for way in (redeliver, redrive):
        with pytest.raises(Poison, match="x-original-topic"):
            way(record())


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(sorted(deadletter._OURS)) | st.text(max_size=5),
            st.none() | st.binary(max_size=30),
        ),
        max_size=20,
    ),
    message=st.text(max_size=3000),
)
def test_any_record_can_be_dead_lettered(headers: Any, message: str) -> None:
    """Malformed failure headers and endless messages do not stop a dead letter."""
    output = dead_letter(
        record(None, headers),
        topic="x.dlt",
        role="r",
        error=ValueError(message),
        attempt=1,
        now=NOW,
    )
    failure = read_failure(output.headers)
    assert failure.error_class == "ValueError"
    assert len(failure.error_message.encode()) <= 1024
    assert failure.first_failed_at is not None
