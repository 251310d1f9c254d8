"""The platform's messages in AsyncAPI 3.0, made of the catalogues of types, topics and flows.

`document` is pure; `python -m app.asyncapi > docs/reference/asyncapi.json` writes it with the
defaults of the settings, and GET /asyncapi.json answers with those of the running server.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from app.control.acks import Ack
from app.control.canary import CanaryConfig
from app.domain.definition import DEFINITIONS
from app.flows import CONTROL, FLOWS, WORKERS
from app.messages import CATALOGUE as MESSAGES
from app.messages import Body
from app.messages.barrier import Barrier
from app.messages.body import Id, Instant
from app.observability.health import package_version
from app.roles import ROLES
from app.settings_model import Settings
from app.topics import (
    CATALOGUE,
    CONTROL_TOPICS,
    DEAD_LETTER_TOPICS,
    RETRY_TIERS,
    TopicSpec,
    dlt_of,
)

_REF: Final = "#/components/schemas/{name}"
_BINDING: Final = "0.5.0"
_CONTENT: Final = "application/json"
_DESCRIPTION: Final = (
    "Every topic of the platform: who sends, who receives, what stands in it. Events are"
    " CloudEvents 1.0 in Kafka's binary mode. Delivery is at least once; the id `ce_id` never"
    " changes, so a repeat is recognised. Readers ignore members and headers that they do not know."
)

Attempt = Annotated[str, Meta(pattern="^[0-9]{1,4}$")]
Number = Annotated[str, Meta(pattern="^[0-9]{1,19}$")]
Token = Annotated[str, Meta(min_length=1, max_length=256)]
Traceparent = Annotated[str, Meta(pattern="^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]


class EventHeaders(msgspec.Struct, frozen=True):
    """The headers of every event, as CloudEvents name them. Values are UTF-8 text."""

    ce_specversion: Annotated[str, Meta(pattern=r"^1\.0$")]
    ce_id: Annotated[Id, Meta(extra_json_schema={"format": "uuid"})]
    ce_source: Token
    ce_type: Token
    ce_time: Instant
    ce_correlationid: Token
    ce_causationid: Token
    content_type: Token = msgspec.field(name="content-type")
    traceparent: Traceparent
    tracestate: Annotated[str, Meta(max_length=512)] = ""


class FailureHeaders(
    msgspec.Struct, frozen=True, rename=lambda name: "x-" + name.replace("_", "-")
):
    """What is added to a record that failed: where it first stood, and why it failed.

    They are replaced and never appended; the record's own headers, key and value stay as they came.
    """

    original_topic: Token
    original_partition: Number
    original_offset: Number
    original_timestamp: Number
    first_failed_at: Instant
    retry_role: str
    attempt: Attempt
    error_class: str
    error_message: str
    error_reason: str
    due_at: Instant | None = None
    redrives: Number | None = None


def document(
    *, namespace: str = "symphony", partitions: int = 4, replicas: int = 1, bootstrap: str = ""
) -> dict[str, Any]:
    """Return the description of all topics; equal arguments give equal documents."""
    bodies: list[type[Body]] = [*MESSAGES.values(), Barrier]
    types: list[Any] = [*bodies, EventHeaders, FailureHeaders, *_CONTROL_BODIES.values()]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:symphony:messages",
        "info": {
            "title": "Chaos Symphony messages",
            "version": package_version(),
            "description": _DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": _CONTENT,
        "servers": {
            "kafka": {
                "host": bootstrap or str(Settings.model_fields["broker_bootstrap"].default),
                "protocol": "kafka",
                "description": "the setting broker_bootstrap",
            }
        },
        "channels": {
            channel_name(spec.name): _channel(spec, partitions, replicas)
            for spec in CATALOGUE.values()
        },
        "operations": _operations(namespace),
        "components": {
            "schemas": {name: schemas[name] for name in sorted(schemas)},
            "messages": {
                **{body.ce_type(): _message(body) for body in bodies},
                **{name: _CONTROL_MESSAGES[name] for name in sorted(CONTROL_TOPICS)},
                **_FAILED_MESSAGES,
            },
        },
    }


def encoded(**arguments: Any) -> bytes:
    """Return the document as JSON that people can read."""
    return (json.dumps(document(**arguments), indent=2, ensure_ascii=False) + "\n").encode()


def channel_name(topic: str) -> str:
    """Return the name of a topic's channel: its words in camel case (`orderCreated`)."""
    words = topic.replace("_", ".").replace("-", ".").split(".")
    return words[0] + "".join(word.capitalize() for word in words[1:])


def _channel(spec: TopicSpec, partitions: int, replicas: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "cleanup.policy": [spec.cleanup],
        "max.message.bytes": spec.bytes_max,
    }
    if spec.retention_s is not None:
        config["retention.ms"] = spec.retention_s * 1000
    return {
        "address": spec.name,
        "description": _meaning(spec),
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _carried(spec)},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partition_count(partitions),
                "replicas": replicas,
                "topicConfiguration": config,
                "bindingVersion": _BINDING,
            }
        },
    }


def _meaning(spec: TopicSpec) -> str:
    if spec.name in DEAD_LETTER_TOPICS:
        return "Records that were given up, until an operator sends them back or discards them."
    if spec.name in CONTROL_TOPICS:
        return "What is changed while workers run, and who has it in force; read by every worker."
    if spec.name in {tier.name for tier in RETRY_TIERS.values()}:
        return "Records that wait until they are due, and are then delivered to one role again."
    return " ".join(_summary(body) for body in spec.bodies) + f" Keyed by {spec.key}."


def _carried(spec: TopicSpec) -> list[str]:
    """The names of the messages that may stand in a topic."""
    if spec.name in CONTROL_TOPICS:
        return [spec.name]
    if spec.name in DEAD_LETTER_TOPICS:
        return ["dead-letter"]
    if not spec.bodies:
        return ["retry"]
    return [*(body.ce_type() for body in spec.bodies), Barrier.ce_type()]


def _message(body: type[Body]) -> dict[str, Any]:
    return {
        "name": body.ce_type(),
        "title": body.__name__,
        "summary": _summary(body),
        "contentType": _CONTENT,
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/EventHeaders"},
                {"type": "object", "properties": {"ce_type": {"const": body.ce_type()}}},
            ]
        },
        "payload": {"$ref": f"#/components/schemas/{body.__name__}"},
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "bindings": _key(f"the member {body.KEY}"),
    }


def _key(meaning: str) -> dict[str, Any]:
    key = {"type": "string", "description": meaning}
    return {"kafka": {"key": key, "bindingVersion": _BINDING}}


def _summary(kind: type[Any]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " ")


_ANYTHING: Final = {"description": "as it came, readable or not"}
_FAILED: Final = {"$ref": "#/components/schemas/FailureHeaders"}
_FAILED_MESSAGES: Final[dict[str, Any]] = {
    "retry": {
        "name": "retry",
        "summary": "An event that failed and is tried again when x-due-at has come.",
        "headers": {"allOf": [{"$ref": "#/components/schemas/EventHeaders"}, _FAILED]},
        "payload": _ANYTHING,
        "bindings": _key("that of the failed record"),
    },
    "dead-letter": {
        "name": "dead-letter",
        "summary": "A record that was given up; what cannot be read may lack an event's headers.",
        "headers": _FAILED,
        "payload": _ANYTHING,
        "bindings": _key("that of the failed record"),
    },
}


def _control(topic: str) -> dict[str, Any]:
    """What stands in a control topic; chaos rules are known to the laboratory alone."""
    kind = _CONTROL_BODIES.get(topic)
    payload = {"$ref": f"#/components/schemas/{kind.__name__}"} if kind else {"type": "object"}
    return {
        "name": topic,
        "summary": _summary(kind) if kind else "A value under its key.",
        "description": "A record without a value deletes what stands under its key.",
        "contentType": _CONTENT,
        "payload": payload,
        "bindings": _key(CONTROL_TOPICS[topic].key),
    }


_CONTROL_BODIES: Final[dict[str, type[Any]]] = {
    "chaos.acks": Ack,
    "canary.acks": Ack,
    "canary.config": CanaryConfig,
}
_CONTROL_MESSAGES: Final = {topic: _control(topic) for topic in CONTROL_TOPICS}


def _operations(namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    replies = _replies()
    for role, flow in FLOWS.items():
        meaning = ROLES[role].meaning
        if flow.by_outbox:
            meaning += "; through the outbox"
        group = f"{namespace}-{role}"
        for spec in flow.receives:
            found[_operation_name(role, "Receives", spec.name)] = {
                **_operation("receive", role, meaning, spec),
                "bindings": {
                    "kafka": {
                        "groupId": {"type": "string", "const": group},
                        "bindingVersion": _BINDING,
                    }
                },
            }
        failed = _failed(flow.receives) if ROLES[role].tables else ()
        for spec in (*flow.sends, *failed):
            operation = _operation("send", role, meaning, spec)
            if role == "orchestrator" and spec.name in replies:
                channel = f"#/channels/{channel_name(replies[spec.name])}"
                operation["reply"] = {"channel": {"$ref": channel}}
            found[_operation_name(role, "Sends", spec.name)] = operation
    for topic, (senders, receivers) in CONTROL.items():
        for action, verb, roles in (
            ("send", "Sends", senders),
            ("receive", "Receives", receivers),
        ):
            for role in roles:
                meaning = "any worker of a lab" if role == WORKERS else ROLES[role].meaning
                operation = _operation(action, role, meaning, CONTROL_TOPICS[topic])
                found[_operation_name(role, verb, topic)] = operation
    return found


def _failed(received: Sequence[TopicSpec]) -> tuple[TopicSpec, ...]:
    """Where a consumer puts what fails: the retry tiers, and the dead letters of what it reads."""
    letters = (CATALOGUE[dlt_of(spec.name)] for spec in received)
    return (*RETRY_TIERS.values(), *letters)


def _replies() -> dict[str, str]:
    """The topic in which a command's answer comes."""
    found: dict[str, str] = {}
    for definition in DEFINITIONS.values():
        for step in definition.steps:
            answer = step.result.TOPICS[0]
            found[step.topic] = answer
            if step.compensation is not None:
                found[step.compensation.topic] = answer
    return found


def _operation(action: str, role: str, meaning: str, spec: TopicSpec) -> dict[str, Any]:
    channel = f"#/channels/{channel_name(spec.name)}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": meaning,
        "tags": [{"name": role}],
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in _carried(spec)],
    }


def _operation_name(role: str, verb: str, topic: str) -> str:
    name = channel_name(topic)
    return channel_name(role) + verb + name[0].upper() + name[1:]


if __name__ == "__main__":
    sys.stdout.buffer.write(encoded())
