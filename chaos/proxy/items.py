"""What travels through one direction of a connection: bytes, and how it ends."""

from __future__ import annotations

from enum import Enum


class End(Enum):
    """The end of a direction; it travels in order behind the bytes before it."""

    FIN = "the source has sent its last byte"
    LOST = "the source's connection broke"
    CLOSE = "a toxic closes the connection once what went before is written"
    RESET = "a toxic resets the connection"


Item = bytes | End


def size(item: Item) -> int:
    """Bytes of data in an item; an end has none."""
    return len(item) if isinstance(item, bytes) else 0
