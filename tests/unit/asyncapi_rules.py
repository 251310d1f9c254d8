"""The rules of AsyncAPI 3.0 that a document of ours must keep, as far as it uses the format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema

_NAME = re.compile(r"[a-zA-Z0-9.\-_]+")
_ROOT = {"asyncapi", "id", "info", "defaultContentType", "servers", "channels", "operations",
         "components"}  # fmt: skip


def faults_of(document: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for every rule that is broken."""
    if not re.fullmatch(r"3\.\d+\.\d+", document.get("asyncapi", "")):
        yield "no version of AsyncAPI 3"
    if set(document) - _ROOT:
        yield f"unknown members {set(document) - _ROOT}"
    if not {"title", "version"} <= document.get("info", {}).keys():
        yield "info needs title and version"
    for name, server in document.get("servers", {}).items():
        if not {"host", "protocol"} <= server.keys():
            yield f"server {name} needs host and protocol"
    yield from _references(document, document)
    yield from _channels(document)
    yield from _operations(document)
    yield from _messages(document)


def resolve(document: dict[str, Any], reference: str) -> Any:
    """What `#/a/b` names; raises KeyError when there is no such thing."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def schema_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that can be used alone: its references lead into the components beside it."""
    return {"allOf": [schema], "components": document["components"]}


def _references(document: dict[str, Any], value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            try:
                resolve(document, reference)
            except (KeyError, TypeError):
                yield f"{reference} leads nowhere"
        for one in value.values():
            yield from _references(document, one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(document, one)


def _channels(document: dict[str, Any]) -> Iterator[str]:
    addresses = set()
    for name, channel in document.get("channels", {}).items():
        if not _NAME.fullmatch(name):
            yield f"channel {name}: not a name"
        if not channel.get("messages"):
            yield f"channel {name} has no message"
        if channel.get("address") in addresses:
            yield f"channel {name}: its address is another's, too"
        addresses.add(channel.get("address"))
        binding = channel.get("bindings", {}).get("kafka", {})
        for number in ("partitions", "replicas"):
            if not isinstance(binding.get(number), int) or binding[number] < 1:
                yield f"channel {name}: {number} must be 1 or more"
        if not isinstance(binding.get("topicConfiguration", {}).get("cleanup.policy"), list):
            yield f"channel {name}: cleanup.policy must be a list"


def _operations(document: dict[str, Any]) -> Iterator[str]:
    for name, operation in document.get("operations", {}).items():
        if operation.get("action") not in ("send", "receive"):
            yield f"operation {name}: action must be send or receive"
        channel = operation.get("channel", {}).get("$ref", "")
        if not channel.startswith("#/channels/"):
            yield f"operation {name}: its channel must be one of the document"
        for message in operation.get("messages", []):
            if not message["$ref"].startswith(f"{channel}/messages/"):
                yield f"operation {name}: {message['$ref']} is no message of its channel"


def _messages(document: dict[str, Any]) -> Iterator[str]:
    validator = jsonschema.Draft7Validator
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        try:
            validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            yield f"schema {name}: {error.message}"
    for name, message in document.get("components", {}).get("messages", {}).items():
        if not _NAME.fullmatch(name):
            yield f"message {name}: not a name"
        if "payload" not in message:
            yield f"message {name} has no payload"
        for part in ("payload", "headers"):
            try:
                validator.check_schema(message.get(part, {}))
            except jsonschema.SchemaError as error:
                yield f"message {name}, {part}: {error.message}"
