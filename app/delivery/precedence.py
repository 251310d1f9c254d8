"""Outputs of one key in the order of its events, across the death of a worker.

A worker may die after its commit and before its outputs. The repeats of its records publish what is
left, but records of several topics come back in any order, and fresh ones between them. So the
first event of each key that was there before this assignment publishes all that its key has put out
so far, perhaps once more, before its own outputs. Red without it: `symphony simulate --seed 59`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.delivery.events import Event, OrderedHandler
from app.messages.envelope import Output

if TYPE_CHECKING:
    from app.db.engine import Transaction


class Precedence:
    """What must be published before the events of one batch; nothing for most handlers."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler if isinstance(handler, OrderedHandler) else None

    def unsure(self, events: Sequence[Event], known: Container[str]) -> list[Event]:
        """Events of keys with outputs that may be unpublished; `known` are the ids of repeats."""
        if self._handler is None:
            return []
        is_unsure = self._handler.is_unsure
        return [one for one in events if is_unsure(one, again=one.event_id in known)]

    async def look_up(
        self, tx: Transaction, unsure: Sequence[Event]
    ) -> Mapping[str, tuple[Output, ...]]:
        """What goes before the outputs of the first unsure event of each key, by event id."""
        if self._handler is None or not unsure:
            return {}
        first = list({event.key: event for event in reversed(unsure)}.values())
        before = await self._handler.unpublished(tx, first)
        return {one.event_id: outputs for one, outputs in zip(first, before, strict=True)}

    def settle(self, unsure: Sequence[Event]) -> None:
        """They are committed: whatever ends this worker now ends its assignment, too."""
        if self._handler is not None and unsure:
            self._handler.sure(unsure)
