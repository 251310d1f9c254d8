"""Every message type keeps its bytes and headers, and its readers tolerate what may be added."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from app.messages import CATALOGUE, Body, Output, decode, pack, unpack
from app.topics import MESSAGE_TOPICS
from tests.contracts.samples import CAUSE, EVENT, GOLDEN, SAMPLES, golden_of, path_of, record_of

pytestmark = pytest.mark.unit

#: The trace and the flag of the cause, the span of the event.
CHILD = "00-0af7651916cd43dd8448eb211c80319c-9f3e8b4d3c5e6f7a-01"

each_sample = pytest.mark.parametrize(
    "body", [pytest.param(body, id=body.ce_type()) for body in SAMPLES]
)


def golden(body: Body) -> dict[str, Any]:
    """Read a golden file."""
    content: dict[str, Any] = json.loads(path_of(body).read_text(encoding="utf-8"))
    return content


def headers_of(content: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Return a golden file's headers as a consumer sees them."""
    return [(name, value.encode()) for name, value in content["headers"]]


def test_every_type_has_a_sample_and_a_golden_file() -> None:
    """No type travels without a contract, and no contract is left of a type that is gone."""
    assert {body.ce_type() for body in SAMPLES} == set(CATALOGUE)
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CATALOGUE)


@each_sample
def test_produced_bytes_are_the_golden_bytes(body: Body) -> None:
    """Key, headers and value are produced byte for byte as published before."""
    assert golden_of(body) == golden(body)


@each_sample
def test_golden_bytes_are_read_on_every_topic_of_the_type(body: Body) -> None:
    """What an older producer wrote is read as the same body, also on alias topics."""
    content = golden(body)
    for topic in body.TOPICS:
        decoded = decode(
            topic, headers_of(content), content["key"].encode(), content["value"].encode()
        )
        assert decoded.body == body
        assert (decoded.event_id, decoded.type, decoded.attempt) == (EVENT, body.ce_type(), 0)
        assert (decoded.correlation_id, decoded.causation_id) == ("request-42", CAUSE.event_id)
        assert decoded.traceparent == CHILD


@each_sample
def test_unknown_fields_and_headers_are_ignored(body: Body) -> None:
    """A newer producer of the same version may add fields and headers."""
    content = golden(body)
    value = {**json.loads(content["value"]), "added_later": {"deep": [1, None, "x"]}}
    headers = [
        *headers_of(content),
        ("ce_addedlater", b"x"),
        ("x-foreign", b"1"),
        ("x-foreign", b"2"),
    ]
    decoded = decode(content["topic"], headers, content["key"].encode(), json.dumps(value).encode())
    assert decoded.body == body


@pytest.mark.parametrize(
    ("type_name", "added", "default"),
    [
        ("order.status_changed.v1", "held", False),
        ("stock.low.v1", "restocked", 0),
        ("chaos.injected.v1", "rule_version", 0),
    ],
)
def test_bytes_from_before_a_field_was_added_are_read(
    type_name: str, added: str, default: Any
) -> None:
    """An older producer's message is one with the default."""
    [body] = [one for one in SAMPLES if one.ce_type() == type_name]
    content = golden(body)
    older = {name: one for name, one in json.loads(content["value"]).items() if name != added}
    decoded = decode(
        content["topic"], headers_of(content), content["key"].encode(), json.dumps(older).encode()
    )
    assert decoded.body == msgspec.structs.replace(body, **{added: default})


@each_sample
def test_header_names_are_those_of_the_envelope(body: Body) -> None:
    """CloudEvents binary mode: each header once, exactly one traceparent, JSON content."""
    names = [name for name, _ in record_of(body).headers]
    assert sorted(names) == [
        "ce_causationid",
        "ce_correlationid",
        "ce_id",
        "ce_source",
        "ce_specversion",
        "ce_time",
        "ce_type",
        "content-type",
        "traceparent",
    ]


@each_sample
def test_stored_outputs_are_sent_again_unchanged(body: Body) -> None:
    """Outputs survive the inbox row: same topic, key, value and headers."""
    output: Output = record_of(body)
    assert unpack(pack([output, output])) == [output, output]


def test_every_message_topic_has_its_type_and_dead_letter_topic() -> None:
    """Topics are declared from the types, so neither can be forgotten."""
    assert {t for spec in MESSAGE_TOPICS.values() for t in spec.bodies} == set(CATALOGUE.values())
