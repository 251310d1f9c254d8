"""Step 2: the idempotency table, a fast pre-filter in front of the inbox.

Key: the event id's 16 bytes. Value: 4 bytes of Unix seconds, then the stored outputs (msgpack).
Only finished events stand in it, so a hit means "publish the stored outputs again". Losing or
regressing the table costs one inbox look-up per event, never an effect. Entries leave after
`table_entry_retention_s`; PostgreSQL still answers then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app import ids
from app.delivery.effects import Finished
from app.delivery.events import Event, Write
from app.delivery.tables import Table, table_get, table_items
from app.messages import pack, unpack

if TYPE_CHECKING:
    from app.delivery.app import App

SWEEP_MAX = 2000
"""Entries that one sweep of one partition removes at most."""


class IdempotencyTable:
    """The finished events of the assigned partitions."""

    def __init__(self, app: App, table: Table) -> None:
        self._table = table
        self._retention_s = app.settings.table_entry_retention_s
        self._ages: dict[int, deque[tuple[int, bytes]]] = {}
        self._keys: dict[int, set[bytes]] = {}

    @property
    def table(self) -> Table:
        """The Faust table behind it."""
        return self._table

    def split(self, events: Sequence[Event]) -> tuple[list[Event], list[Finished]]:
        """Return (events not known to be finished, finished ones with their stored outputs).

        The keys are in memory too, so that only a repeated event costs a read of the store.
        """
        fresh: list[Event] = []
        seen: list[Finished] = []
        for event in events:
            key = ids.to_bytes(event.event_id)
            known = key in self._keys.get(event.partition, ())
            value = table_get(self._table, event.partition, key) if known else None
            if value is None:
                fresh.append(event)
            else:
                outputs = unpack(value[4:])
                seen.append(Finished(event.partition, event.key, event.event_id, outputs))
        return fresh, seen

    def remember(self, finished: Finished, now: datetime) -> Finished:
        """Add the table entry of a finished event; a retried or parked one is left as it is."""
        if not finished.done:
            return finished
        key, at_s = ids.to_bytes(finished.event_id), int(now.timestamp())
        self._ages.setdefault(finished.partition, deque()).append((at_s, key))
        self._keys.setdefault(finished.partition, set()).add(key)
        write = Write(self._table.name, key, at_s.to_bytes(4, "big") + pack(finished.outputs))
        return finished._replace(writes=(*finished.writes, write))

    def recovered(self, partitions: Sequence[int]) -> None:
        """Rebuild the order of ages from the recovered table; forgets other partitions."""
        self._ages = {
            partition: deque(
                sorted(
                    (int.from_bytes(value[:4], "big"), key)
                    for key, value in table_items(self._table, partition)
                )
            )
            for partition in partitions
        }
        self._keys = {partition: {key for _, key in ages} for partition, ages in self._ages.items()}

    def expired(self, partition: int, now: datetime) -> tuple[Write, ...]:
        """Take out entries past their retention, at most SWEEP_MAX; the caller writes them."""
        ages = self._ages.get(partition)
        if not ages:
            return ()
        oldest_kept_s = int(now.timestamp()) - self._retention_s
        writes: list[Write] = []
        while ages and ages[0][0] < oldest_kept_s and len(writes) < SWEEP_MAX:
            key = ages.popleft()[1]
            self._keys[partition].discard(key)
            writes.append(Write(self._table.name, key, None))
        return tuple(writes)
