"""Which events of a batch are new to a consumer: pure rules over the inbox row.

Only a definite outcome is finished. INTENT means the process died around a call: call again with
the same key. RETRYING and PARKED mean the event moved on as a new delivery with a higher attempt
number; that delivery is really tried, an older one only repeats what was stored.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.db.inbox import InboxRow, Status
from app.delivery.events import Event


def is_finished(row: InboxRow | None, delivery: int) -> bool:
    """Whether delivery number `delivery` of an event with this inbox row is not to be applied."""
    if row is None or row.status is Status.INTENT:
        return False
    return row.status is Status.DONE or delivery <= row.attempt


def first_deliveries(events: Iterable[Event]) -> tuple[list[Event], int]:
    """Drop repeated event ids within one batch, keeping the latest delivery at the first place.

    Returns the events and how many were dropped.
    """
    kept: dict[str, Event] = {}
    total = 0
    for event in events:
        total += 1
        other = kept.get(event.event_id)
        if other is None or event.delivery > other.delivery:
            kept[event.event_id] = event
    return list(kept.values()), total - len(kept)
