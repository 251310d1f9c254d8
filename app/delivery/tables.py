"""Changelog-backed tables, written by the step and by nothing else.

A Faust table write goes to the local store at once and to the changelog some time later; a crash
or a failed send in between leaves a store that is ahead of its changelog. Here the changelog is
acknowledged first, then values and changelog offset enter the store in one atomic batch, so a
store is never ahead of what a successor would recover.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import faust.stores.memory
import rocksdict

from app.delivery.outputs import Acked, Outputs

if TYPE_CHECKING:
    from app.delivery.app import App

Table = Any
"""A faust.Table with raw bytes as keys and values."""

Changes = Mapping[int, Mapping[bytes, bytes | None]]
"""{partition: {key: value, or None to delete}}"""


def declare_table(app: App, name: str, meaning: str) -> Table:
    """Declare a raw-bytes table, partitioned like the saga topics, with the changelog topic
    `<app id>-<name>-changelog`. Call it only in the role that owns the table's source topics."""
    return app.Table(
        name,
        partitions=app.settings.topic_partitions,
        key_type=bytes,
        value_type=bytes,
        help=meaning,
    )


def table_get(table: Table, partition: int, key: bytes) -> bytes | None:
    """The value of `key` in an assigned partition, None when absent. Costs about 2 us."""
    store = table.data
    if isinstance(store, faust.stores.memory.Store):
        value: bytes | None = store.data.get(key)
        return value
    with _fail_stop(store, partition):
        found: bytes | None = store._db_for_partition(partition).get(key)
    return found


def table_items(table: Table, partition: int) -> Iterator[tuple[bytes, bytes]]:
    """All entries of an assigned partition; a full scan, for recovery and sweeps only."""
    store = table.data
    if isinstance(store, faust.stores.memory.Store):
        for key, value in list(store.data.items()):
            if store._key_partition.get(key) == partition:
                yield key, value
        return
    offset_key = store.offset_key
    with _fail_stop(store, partition):
        for key, value in store._db_for_partition(partition).items():
            if key != offset_key:
                yield key, value


@contextmanager
def _fail_stop(store: Any, partition: int) -> Iterator[None]:
    """Let an error of the store end the process, with files that its successor can use."""
    try:
        yield
    except Exception as error:
        store.discard_damaged(partition, error)
        raise


class TableWrites:
    """Changes of several tables on their way: changelogs acknowledged first, then the stores."""

    def __init__(self, writes: Iterable[tuple[Table, Changes]]) -> None:
        self._writes = [(table, changes) for table, changes in writes if changes]

    def __bool__(self) -> bool:
        return bool(self._writes)

    async def add_to(self, outputs: Outputs) -> None:
        """Add the changelog records."""
        for table, changes in self._writes:
            topic = table.changelog_topic.get_topic_name()
            for partition, entries in changes.items():
                for key, value in entries.items():
                    await outputs.add(topic, partition, key, value)

    def apply(self, acknowledged: Iterable[Acked]) -> None:
        """Write the stores; `acknowledged` is what the flush that held the changelogs returned."""
        high: dict[tuple[str, int], int] = defaultdict(lambda: -1)
        for acked in acknowledged:
            tp = (acked.topic, acked.partition)
            high[tp] = max(high[tp], acked.first_offset + acked.records - 1)
        for table, changes in self._writes:
            topic = table.changelog_topic.get_topic_name()
            for partition, entries in changes.items():
                _apply(table, partition, entries, high[topic, partition])


def _apply(
    table: Table, partition: int, entries: Mapping[bytes, bytes | None], offset: int
) -> None:
    store = table.data
    if isinstance(store, faust.stores.memory.Store):
        for key, value in entries.items():
            if value is None:
                store.data.pop(key, None)
            else:
                store.data[key] = value
            store._key_partition[key] = partition
        return
    batch = rocksdict.WriteBatch(raw_mode=True)
    for key, value in entries.items():
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    batch.put(store.offset_key, str(offset).encode())
    with _fail_stop(store, partition):
        store._db_for_partition(partition).write(batch)
