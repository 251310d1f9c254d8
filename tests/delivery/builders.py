"""Records and events for unit tests of the delivery core."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

from app.delivery.events import Event


def event_id(number: int) -> str:
    """The canonical id of event `number`."""
    return str(UUID(int=number))


def event(number: int, *, delivery: int = 0, partition: int = 0, offset: int = 0) -> Event:
    """Event `number`; its key is its number."""
    return Event(
        topic="orders",
        partition=partition,
        offset=offset,
        key=b"%d" % number,
        event_id=event_id(number),
        type="order.created.v1",
        body=None,
        attempt=delivery,
        delivery=delivery,
        correlation_id="",
        causation_id="",
        traceparent="",
        record=None,
    )


def record(offset: int, partition: int = 0, topic: str = "orders") -> Any:
    """The part of a consumed record that positions and journals look at."""
    return SimpleNamespace(topic=topic, partition=partition, offset=offset)
