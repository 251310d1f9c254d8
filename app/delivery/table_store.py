"""The local store of a table: what is damaged is thrown away and recovered from the changelog.

A store holds nothing that its changelog does not. Left alone, RocksDB refuses a damaged directory
at every start, so the worker would end again and again until somebody removed it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any

from faust.stores import STORES
from faust.stores.rocksdb import Store

from app.delivery.exits import Reason, end_process
from app.observability.logging import get_log

log = get_log(__name__)

SCHEME = "rebuilding"


class RebuildingStore(Store):
    """Replaces faust.stores.rocksdb.Store. Red without it: tests/delivery/test_table_store.py."""

    def _open_for_partition(self, partition: int) -> Any:
        """Extends Store._open_for_partition: a partition that cannot be opened begins empty, and
        Faust, which finds no offset in it, reads its changelog from the beginning.
        """
        try:
            return super()._open_for_partition(partition)
        except Exception as error:
            if not self.discard_damaged(partition, error):
                raise
            return super()._open_for_partition(partition)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Extends Store.apply_changelog_batch: what cannot be written ends the process, with files
        that its successor can use.

        Faust's recovery logs any error, keeps the batch and writes it once more with every further
        record: quadratic work for as long as the error lasts, behind a worker that looks alive.
        """
        events = list(batch)
        try:
            super().apply_changelog_batch(events, to_key, to_value)
        except Exception as error:
            for partition in {event.message.partition for event in events}:
                self.discard_damaged(partition, error)
            end_process(Reason.STORE, f"table {self.table.name} cannot be recovered: {error}")

    def discard_damaged(self, partition: int, error: Exception) -> bool:
        """Throw a partition's files away if `error` says that they are damaged; whether it did.

        An open database of it must not be used again. A disk that is full or a lock that is held
        is no damage.
        """
        told = " ".join(str(error).split())
        if not (told.startswith("Corruption") or "No such file" in told):
            return False
        path = self.partition_path(partition)
        log.error("table.discarded", path=str(path), reason=told[:300])
        shutil.rmtree(path, ignore_errors=True)
        return True


STORES.aliases[SCHEME] = f"{__name__}:RebuildingStore"
