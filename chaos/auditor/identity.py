"""Ids that the platform derives, computed here by the public rule (RFC 9562, version 5)."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha1
from typing import Any

#: The platform's namespace of records that are known by nothing but where they stand.
POSITIONS = bytes.fromhex("0b8ac5a30f1c5b0a9a556c8f2f3f7d11")

_ORIGIN = ("x-original-topic", "x-original-partition", "x-original-offset")
_LETTER = (*_ORIGIN, "x-retry-role", "x-attempt", "x-redrives")


def derived(namespace: bytes, name: str) -> str:
    """The version 5 UUID of `name` in the namespace with these 16 bytes, as 32 hex digits."""
    digest = sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:12]}5{digest[13:16]}{variant}{digest[17:32]}"


def of_order(order_id: Any, name: str) -> str:
    """The id of the event called `name` that an order's creation brought about."""
    return derived(bytes.fromhex(str(order_id).replace("-", "")), name)


def of_position(topic: str, partition: int, offset: int) -> str:
    """The id under which a raw consumer knows a record."""
    return derived(POSITIONS, f"{topic}/{partition}/{offset}")


def of_letter(topic: str, partition: int, offset: int, headers: Mapping[str, bytes]) -> str:
    """The id under which a dead letter is counted: copies that a repeated step has published are
    one letter. One that does not say where it came from is known by where it stands."""
    if not all(headers.get(name) for name in _ORIGIN):
        return of_position(topic, partition, offset)
    told = (headers.get(name, b"").decode("utf-8", "replace") for name in _LETTER)
    return derived(POSITIONS, "/".join((topic, *told)))
