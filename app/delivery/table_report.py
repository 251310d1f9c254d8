"""What a worker shows of its tables: how far recovery is, and how much is in them.

Costs a few reads of counters per table: nothing is scanned. It runs from before the first recovery
on, which is when it is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faust.stores.memory

from app.observability import metrics

if TYPE_CHECKING:
    from app.delivery.app import App
    from app.delivery.tables import Table

ESTIMATE = "rocksdb.estimate-num-keys"


class TableReport:
    """The gauges of one worker's tables."""

    def __init__(self, app: App) -> None:
        self._app = app

    def refresh(self) -> None:
        """Bring the gauges up to date; those of a table without partitions go away."""
        recovery = self._app.tables.recovery
        remaining = recovery.active_remaining() if recovery.in_recovery else {}
        for name, table in self._app.tables.items():
            partitions = {tp for tp in recovery.active_tps if recovery.tp_to_table[tp] is table}
            if not partitions:
                metrics.TABLE_RECOVERY.forget(name)
                metrics.TABLE_ENTRIES.forget(name)
                continue
            left = sum(max(0, count) for tp, count in remaining.items() if tp in partitions)
            metrics.TABLE_RECOVERY.child(name).set(left)
            metrics.TABLE_ENTRIES.child(name).set(entries(table))


def entries(table: Table) -> int:
    """How many entries a table's open partitions have; RocksDB's own estimate."""
    store = table.data
    if isinstance(store, faust.stores.memory.Store):
        return len(store.data)
    return sum(_estimate(database) for database in list(store._dbs.values()))


def _estimate(database: Any) -> int:
    """Without the entry that holds the changelog offset."""
    return max(0, (database.property_int_value(ESTIMATE) or 0) - 1)
