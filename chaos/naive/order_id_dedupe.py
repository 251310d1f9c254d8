"""Plug-in: the orchestrator takes a second event of an order for a repeat: it knows only the key.

Cure removed: deduplication by consumer and event id.
Hurts when: an order has more than one event. No fault is needed.
Breaks: E2 (committed and never taken in), O4 (every order stops at its first reply).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.delivery import step
from app.delivery.deduplicate import first_deliveries
from app.delivery.events import Event
from app.messages import Barrier
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App

_seen: set[bytes | None] = set()


def first_of_each_order(events: Iterable[Event]) -> tuple[list[Event], int]:
    """Replaces deduplication by event id within the batch: one event per key, ever."""
    listed, repeated = first_deliveries(events)
    kept: list[Event] = []
    for event in listed:
        if event.key not in _seen or event.type == Barrier.TYPE:
            kept.append(event)
        _seen.add(event.key)
    return kept, repeated + len(listed) - len(kept)


def install(app: App) -> None:
    """Have the orchestrator deduplicate by order."""
    if unsafe(app, __name__, "deduplication by event id", "orchestrator"):
        replace(step, "first_deliveries", first_of_each_order)
