"""The description of the messages: well-formed, current, and of what really travels."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from app import asyncapi, topics
from app.domain.definition import DEFINITIONS
from app.errors import Poison
from app.factory import create_app
from app.flows import CONTROL, FLOWS, OUTBOX
from app.messages import CATALOGUE, deadletter
from app.roles import ROLES
from app.settings import load_settings
from tests.contracts.samples import GOLDEN
from tests.unit.asyncapi_rules import faults_of, resolve, schema_of

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "asyncapi.json"
DOCUMENT: dict[str, Any] = json.loads(asyncapi.encoded())


def test_the_document_is_current() -> None:
    """`python -m app.asyncapi > docs/reference/asyncapi.json` would change nothing."""
    assert PAGE.read_bytes() == asyncapi.encoded()


def test_the_document_keeps_the_rules_of_asyncapi() -> None:
    """References, channels, operations, messages and every schema."""
    assert list(faults_of(DOCUMENT)) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda d: d.update(asyncapi="2.6.0"), "no version"),
        (lambda d: d["components"]["schemas"].pop("Item"), "schemas/Item leads nowhere"),
        (lambda d: d["channels"]["orderCreated"].pop("messages"), "has no message"),
        (lambda d: d["channels"]["stockLow"].update(address="order.created"), "another's"),
        (lambda d: d["operations"]["dlqReceivesRetry1s"].update(action="reads"), "action"),
        (lambda d: d["components"]["schemas"]["Item"].update(type="thing"), "schema Item"),
        (lambda d: d["components"]["messages"]["retry"].pop("payload"), "no payload"),
    ],
)
def test_a_broken_document_is_noticed(spoil: Callable[[Any], Any], fault: str) -> None:
    """The check can fail, rule by rule."""
    broken = copy.deepcopy(DOCUMENT)
    spoil(broken)
    assert any(fault in told for told in faults_of(broken))


def test_every_topic_and_type_is_described_with_its_configuration() -> None:
    """The catalogue and the document are the same list."""
    channels = {one["address"]: one for one in DOCUMENT["channels"].values()}
    assert set(channels) == set(topics.CATALOGUE)
    for name, spec in topics.CATALOGUE.items():
        kafka = channels[name]["bindings"]["kafka"]
        config = {key: str(value) for key, value in kafka["topicConfiguration"].items()}
        config["cleanup.policy"] = kafka["topicConfiguration"]["cleanup.policy"][0]
        assert config.items() <= spec.config().items()
        assert kafka["partitions"] == (spec.partitions or 4)
        assert {body.ce_type() for body in spec.bodies} <= channels[name]["messages"].keys()
    assert set(CATALOGUE) <= DOCUMENT["components"]["messages"].keys()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden_messages_satisfy_their_schemas(path: Path) -> None:
    """Payload and headers, as published; what breaks the contract does not."""
    golden = json.loads(path.read_text())
    message = DOCUMENT["components"]["messages"][path.stem]
    payload = schema_of(DOCUMENT, message["payload"])
    headers = schema_of(DOCUMENT, message["headers"])
    value, sent = json.loads(golden["value"]), dict(golden["headers"])
    jsonschema.validate(value, payload)
    jsonschema.validate(sent, headers)
    required = resolve(DOCUMENT, message["payload"]["$ref"])["required"][0]
    wrong = {name: one for name, one in value.items() if name != required}
    assert not jsonschema.Draft7Validator(payload).is_valid(wrong)
    assert not jsonschema.Draft7Validator(headers).is_valid({**sent, "ce_type": "other.v1"})


def test_headers_of_failed_records_satisfy_their_schemas() -> None:
    """What the builders of retries and dead letters write is what is described."""
    golden = json.loads((GOLDEN / "payment.requested.v1.json").read_text())
    headers = [(name, value.encode()) for name, value in golden["headers"]]
    record = Record(golden["topic"], golden["key"].encode(), golden["value"].encode(), headers)
    for name, output in failed(record):
        message = DOCUMENT["components"]["messages"][name]
        found = {key: value.decode() for key, value in output.headers}
        jsonschema.validate(found, schema_of(DOCUMENT, message["headers"]))


class Record(NamedTuple):
    """A consumed record."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    partition: int = 1
    offset: int = 42
    timestamp: int = 1_700_000_000_000


def failed(record: Record) -> list[tuple[str, Any]]:
    """The record on a retry tier and as a dead letter, by the names of their messages."""
    now = datetime(2026, 11, 28, tzinfo=UTC)
    error = Poison("bad_body", "no")
    retried = deadletter.retry(
        record, tier="retry.5s", role="payment", error=error, attempt=1, due_at=now, now=now
    )
    letter = deadletter.dead_letter(
        record, topic="payment.requested.dlt", role="payment", error=error, attempt=4, now=now
    )
    return [("retry", retried), ("dead-letter", letter)]


def subscribed(role: str) -> set[str]:
    """The topics that a role's agents really subscribe to."""
    app = create_app(load_settings(role=role, table_store="memory"))
    return {topic for runner in app.runners for topic in runner.spec.topics}


@pytest.mark.parametrize("role", [name for name in FLOWS if ROLES[name].consumes])
def test_flows_receive_what_agents_subscribe_to(role: str) -> None:
    """What a role's agents read, and nothing else."""
    assert {spec.name for spec in FLOWS[role].receives} == subscribed(role)


def test_flows_name_every_role() -> None:
    """A new role says what it sends and receives."""
    product = {name for name, role in ROLES.items() if not role.lab_only}
    assert set(FLOWS) == product
    assert set(CONTROL) == set(topics.CONTROL_TOPICS)


def test_flows_send_what_agents_name() -> None:
    """Every topic that an agent, or what stands beneath it, names is one it receives or sends, and
    the reverse.

    What the orchestrator sends to participants stands in the definitions of the saga.
    """
    constants = {
        name: one for name, one in vars(topics).items() if isinstance(one, topics.TopicSpec)
    }
    commands = {topic for d in DEFINITIONS.values() for s in d.steps for topic in
                (s.topic, s.compensation.topic if s.compensation else s.topic)}  # fmt: skip
    for role in ("orchestrator", "payment", "inventory", "shipping"):
        beneath = [f"agents/{role}.py", f"app/participants/{role}.py", f"app/{role}/*.py"]
        source = "".join(file.read_text() for name in beneath for file in ROOT.glob(name))
        named = {one.name for name, one in constants.items() if re.search(rf"\b{name}\b", source)}
        if role == "orchestrator":
            named |= commands
        flow = FLOWS[role]
        assert named == {spec.name for spec in (*flow.receives, *flow.sends)}, role


def test_whatever_is_sent_is_received() -> None:
    """Nobody waits for what no role sends; what nobody reads is named here."""
    received = {spec.name for flow in FLOWS.values() for spec in flow.receives}
    sent = {spec.name for name, flow in FLOWS.items() for spec in flow.sends if name != "dlq"}
    told = received - set(topics.DEAD_LETTER_TOPICS) - {t.name for t in topics.RETRY_TIERS.values()}
    beyond = {topics.CHAOS_INJECTED.name, topics.API_RATE_LIMITED.name}  # no role's own business
    assert told - beyond <= sent
    assert {spec.name for spec in OUTBOX} <= told
