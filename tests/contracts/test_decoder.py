"""The decoder answers with a body or with Poison and a reason, whatever the bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import POISON_REASONS, Poison
from app.messages import CATALOGUE, Decoded, decode
from app.messages.envelope import ATTEMPT_MAX, DEPTH_MAX, VALUE_BYTES_MAX
from tests.contracts.samples import EVENT, ORDER, SAMPLES, record_of

pytestmark = pytest.mark.unit

TOPIC = "payment.requested"
RECORD = record_of(next(body for body in SAMPLES if body.TOPICS[0] == TOPIC))
KEY = ORDER.encode()
VALUE = RECORD.value or b""
HEADERS: list[tuple[str, bytes | None]] = list(RECORD.headers)


def with_header(name: str, value: bytes | None) -> list[tuple[str, bytes | None]]:
    """Return the good headers with one replaced or added."""
    return [*without(name), (name, value)]


def without(name: str) -> list[tuple[str, bytes | None]]:
    """Return the good headers without one."""
    return [pair for pair in HEADERS if pair[0] != name]


def with_field(name: str, value: Any) -> bytes:
    """Return the good value with one field replaced."""
    return json.dumps({**json.loads(VALUE), name: value}).encode()


def reason_of(*arguments: Any) -> str:
    """Return why a record is poison."""
    with pytest.raises(Poison) as caught:
        decode(*arguments)
    assert caught.value.reason in POISON_REASONS
    return caught.value.reason


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        pytest.param(None, VALUE, "null_key", id="null key"),
        pytest.param(KEY, None, "null_value", id="null value"),
        pytest.param(b"", VALUE, "wrong_key", id="empty key"),
        pytest.param(EVENT.encode(), VALUE, "wrong_key", id="key of another order"),
        pytest.param(b"\xff\xfe", VALUE, "wrong_key", id="key not UTF-8"),
        pytest.param(KEY, b"", "bad_json", id="empty value"),
        pytest.param(KEY, VALUE[:-1], "bad_json", id="truncated"),
        pytest.param(KEY, VALUE + b"{}", "bad_json", id="trailing bytes"),
        pytest.param(KEY, b"\x00\x01\x02", "bad_json", id="binary junk"),
        pytest.param(KEY, VALUE.replace(b"2999", b"NaN"), "bad_json", id="NaN"),
        pytest.param(KEY, VALUE.replace(b"2999", b"Infinity"), "bad_json", id="Infinity"),
        pytest.param(KEY, VALUE.replace(b"EUR", b"E\xffR"), "bad_utf8", id="value not UTF-8"),
        pytest.param(KEY, VALUE.replace(b"EUR", b"E\\u0000R"), "nul_character", id="U+0000"),
        pytest.param(KEY, b"[]", "bad_body", id="not an object"),
        pytest.param(KEY, b"{}", "bad_body", id="missing fields"),
        pytest.param(KEY, with_field("amount_minor", "12"), "bad_body", id="amount as text"),
        pytest.param(KEY, with_field("amount_minor", 0), "bad_body", id="amount zero"),
        pytest.param(KEY, with_field("amount_minor", -1), "bad_body", id="amount negative"),
        pytest.param(KEY, with_field("amount_minor", 1.5), "bad_body", id="amount fraction"),
        pytest.param(KEY, with_field("amount_minor", 10**30), "bad_body", id="amount huge"),
        pytest.param(KEY, with_field("currency", "EURO"), "bad_body", id="currency too long"),
        pytest.param(KEY, with_field("not_after", "2026-01-01T00:00:00"), "bad_body", id="naive"),
        pytest.param(KEY, with_field("order_id", None), "bad_body", id="order id null"),
        pytest.param(
            KEY, b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "too_deep", id="deeply nested"
        ),
        pytest.param(KEY, b"{" + b" " * VALUE_BYTES_MAX + b"}", "too_large", id="too large"),
    ],
)
def test_bad_keys_and_values_are_poison(key: Any, value: Any, reason: str) -> None:
    """Each way to break key or value has its reason."""
    assert reason_of(TOPIC, HEADERS, key, value) == reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param([], "bad_header", id="none"),
        pytest.param(without("ce_id"), "bad_header", id="no ce_id"),
        pytest.param(with_header("ce_id", b"42"), "bad_id", id="ce_id not a UUID"),
        pytest.param(with_header("ce_id", b"\xff" * 36), "bad_id", id="ce_id not UTF-8"),
        pytest.param(with_header("ce_id", None), "bad_header", id="ce_id null"),
        pytest.param(without("ce_type"), "bad_header", id="no ce_type"),
        pytest.param(with_header("ce_type", b""), "bad_header", id="ce_type empty"),
        pytest.param(
            with_header("ce_type", b"payment.requested.v2"), "unknown_version", id="newer version"
        ),
        pytest.param(
            with_header("ce_type", b"payment.refund.v1"), "unexpected_type", id="of another topic"
        ),
        pytest.param(with_header("ce_type", b"\xff\xfe"), "unexpected_type", id="type not UTF-8"),
        pytest.param(without("ce_source"), "bad_header", id="no ce_source"),
        pytest.param(with_header("ce_source", b"\xff"), "bad_header", id="source not UTF-8"),
        pytest.param(with_header("ce_source", b"a\nb"), "bad_header", id="control character"),
        pytest.param(with_header("ce_source", b"a" * 257), "bad_header", id="source too long"),
        pytest.param(with_header("ce_specversion", b"0.3"), "bad_header", id="old CloudEvents"),
        pytest.param(
            with_header("content-type", b"application/cloudevents+json"),
            "bad_header",
            id="structured mode",
        ),
        pytest.param(with_header("content-type", b"text/plain"), "bad_header", id="not JSON"),
        pytest.param(with_header("ce_correlationid", b""), "bad_header", id="empty correlation"),
        pytest.param(with_header("x-attempt", b"-1"), "bad_header", id="negative attempt"),
        pytest.param(with_header("x-attempt", b"1e3"), "bad_header", id="attempt not a number"),
        pytest.param(with_header("x-attempt", None), "bad_header", id="attempt null"),
        pytest.param([*HEADERS, ("ce_id", EVENT.encode())], "duplicate_header", id="two ce_id"),
        pytest.param(
            [*HEADERS, ("x-attempt", b"1"), ("x-attempt", b"2")],
            "duplicate_header",
            id="two attempts",
        ),
        pytest.param(
            [*HEADERS, *((f"h{n}", b"") for n in range(100))], "too_many_headers", id="too many"
        ),
    ],
)
def test_bad_headers_are_poison(headers: Any, reason: str) -> None:
    """Each way to break the envelope has its reason."""
    assert reason_of(TOPIC, headers, KEY, VALUE) == reason


def test_a_topic_without_messages_is_poison() -> None:
    """Nothing is decoded from a topic that declares no type."""
    assert reason_of("retry.5s", HEADERS, KEY, VALUE) == "unknown_topic"


def test_a_key_that_is_no_uuid_is_poison() -> None:
    """Key and body agree, and still the order id is not one."""
    odd = "x" * 36
    assert reason_of(TOPIC, HEADERS, odd.encode(), with_field("order_id", odd)) == "bad_key"


def test_an_upper_case_event_id_is_read_in_canonical_form() -> None:
    """The inbox knows one spelling of an id."""
    headers = with_header("ce_id", EVENT.upper().encode())
    assert decode(TOPIC, headers, KEY, VALUE).event_id == EVENT


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(without("traceparent"), id="absent"),
        pytest.param(with_header("traceparent", b"junk"), id="malformed"),
        pytest.param(with_header("traceparent", None), id="null"),
    ],
)
def test_a_bad_trace_costs_no_message(headers: Any) -> None:
    """Tracing is not part of the contract."""
    assert decode(TOPIC, headers, KEY, VALUE).traceparent == ""


def test_two_traces_cost_no_message_and_neither_is_believed() -> None:
    """A doubly instrumented producer loses its trace, not its order."""
    headers = [*HEADERS, ("traceparent", HEADERS[-1][1])]
    assert decode(TOPIC, headers, KEY, VALUE).traceparent == ""


def test_optional_headers_have_defaults() -> None:
    """Without correlation the event is its own; without causation there is none."""
    headers = [pair for pair in HEADERS if pair[0] not in ("ce_correlationid", "ce_causationid")]
    decoded = decode(TOPIC, headers, KEY, VALUE)
    assert (decoded.correlation_id, decoded.causation_id) == (EVENT, "")


def test_retry_headers_are_read() -> None:
    """The attempt and the role that a re-delivered record is meant for."""
    headers = [*HEADERS, ("x-attempt", b"3"), ("x-retry-role", b"payment")]
    decoded = decode(TOPIC, headers, KEY, VALUE)
    assert (decoded.attempt, decoded.retry_role) == (3, "payment")
    assert ATTEMPT_MAX == 9999


def test_nesting_up_to_the_bound_is_read() -> None:
    """Unknown fields may be nested, to a depth."""
    deep: Any = 1
    for _ in range(DEPTH_MAX - 1):
        deep = [deep]
    assert decode(TOPIC, HEADERS, KEY, with_field("later", deep)).event_id == EVENT
    assert reason_of(TOPIC, HEADERS, KEY, with_field("later", [deep])) == "too_deep"


def test_brackets_inside_strings_are_not_nesting() -> None:
    """An address may contain brackets and quotes."""
    assert decode(TOPIC, HEADERS, KEY, with_field("later", '[{"' * 100)).event_id == EVENT


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
NAMES = st.sampled_from([name for name, _ in HEADERS] + ["x-attempt", "x-retry-role", "other"])
FUZZ = settings(max_examples=250, deadline=None)


def outcome(*arguments: Any) -> None:
    """Decode; anything but a body or Poison with a known reason is a failure."""
    reason = ""
    try:
        decoded = decode(*arguments)
    except Poison as poison:
        reason = poison.reason
    assert reason in POISON_REASONS if reason else isinstance(decoded, Decoded)


@FUZZ
@given(
    topic=st.sampled_from([body.TOPICS[0] for body in CATALOGUE.values()]) | st.text(max_size=20),
    headers=st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=60)), max_size=12),
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=200),
)
def test_random_records_never_raise_anything_else(
    topic: str, headers: Any, key: Any, value: Any
) -> None:
    """Random bytes everywhere."""
    outcome(topic, headers, key, value)


@FUZZ
@given(
    sample=st.sampled_from(SAMPLES),
    changes=st.dictionaries(st.integers(0, 8), JSON_VALUES, max_size=3),
    cut=st.integers(0, 400),
    junk=st.binary(max_size=3),
)
def test_damaged_messages_never_raise_anything_else(
    sample: Any, changes: Any, cut: int, junk: bytes
) -> None:
    """Good messages with fields of any JSON value, cut and spliced."""
    record = record_of(sample)
    fields = json.loads(record.value or b"")
    names = list(fields)
    for index, value in changes.items():
        fields[names[index % len(names)]] = value
    whole = json.dumps(fields).encode()
    outcome(record.topic, record.headers, record.key, whole)
    outcome(record.topic, record.headers, record.key, whole[:cut] + junk + whole[cut:])
    outcome(record.topic, record.headers, record.key, whole[:cut] + junk)


@FUZZ
@given(name=NAMES, value=st.none() | st.binary(max_size=300) | st.text(max_size=50).map(str.encode))
def test_damaged_headers_never_raise_anything_else(name: str, value: Any) -> None:
    """One header of a good message replaced by anything."""
    outcome(TOPIC, with_header(name, value), KEY, VALUE)
