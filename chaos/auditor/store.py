"""The auditor's own database: facts of all books as tables, on disk, in bounded memory.

DuckDB spills what does not fit into `memory_mb`; Python holds one chunk of facts at a time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import msgspec

CHUNK_ROWS = 50_000
THREADS_MAX = 4

#: Table to its columns. Times are Unix seconds; ids that may be junk are kept as text beside.
TABLES: dict[str, str] = {
    "request": "op varchar, kind varchar, outcome varchar, expected varchar, key varchar,"
    " request_id varchar, order_id uuid, body_hash varchar, reply_hash varchar, status integer,"
    " sent_s double, returned_s double, detail varchar",
    "orders": "order_id uuid, customer_id varchar, total_minor bigint, currency varchar,"
    " created_s double, created_event uuid, cancel_event uuid",
    "item": "order_id uuid, line integer, sku varchar, quantity bigint, unit_price_minor bigint,"
    " tracked boolean",
    "saga": "order_id uuid, version integer, state varchar, reason varchar, terminal boolean,"
    " body_hash varchar, updated_s double",
    "history": "id bigint, order_id uuid, version integer, event varchar, status varchar,"
    " reason varchar, cause_id varchar, at_s double",
    "idempotency": "key varchar, order_id uuid, body_hash varchar",
    "attempt": "order_id uuid, number integer, status varchar, version integer, charge_id uuid,"
    " refund_id varchar, amount_minor bigint, currency varchar, payment_id varchar,"
    " updated_s double",
    "stock": "sku varchar, available bigint, held bigint, consumed bigint, restocked bigint",
    "reservation": "order_id uuid, status varchar, version integer, updated_s double",
    "reservation_line": "order_id uuid, sku varchar, quantity bigint",
    "shipment": "order_id uuid, status varchar, version integer, updated_s double",
    "inbox": "consumer varchar, event_id uuid, status integer, attempt integer, topic varchar,"
    ' partition integer, "offset" bigint, at_s double',
    "stored_output": "consumer varchar, cause_id uuid, status integer, topic varchar,"
    " event_id uuid, body_hash varchar",
    "outbox": "event_id uuid, topic varchar, order_id varchar, parked boolean",
    "letter_index": 'topic varchar, partition integer, "offset" bigint, origin_topic varchar,'
    " origin_partition integer, origin_offset bigint, consumer varchar, event_id uuid,"
    " order_id uuid, at_s double",
    "review": "order_id uuid, decision varchar, reviewed_event uuid",
    "act": "event_id uuid, action varchar, actor varchar, target varchar, reason varchar,"
    " at_s double",
    "notification": "id uuid, subject varchar, kind varchar, occurrence varchar, event_id uuid,"
    " status varchar, sent_s double",
    "notice": "line bigint, id uuid, subject varchar, order_id uuid, kind varchar,"
    " occurrence varchar, at_s double",
    "gateway": "line bigint, op varchar, order_id uuid, order_text varchar, key varchar,"
    " amount_minor bigint, currency varchar, outcome varchar, replied boolean, attempt integer,"
    " body_hash varchar, at_s double, charge_key varchar, detail varchar",
    "record": 'topic varchar, partition integer, "offset" bigint, at_s double, key varchar,'
    " order_id uuid, event_id uuid, position_id uuid, letter_id uuid, type varchar,"
    " correlation varchar, causation varchar, retry_role varchar, attempt integer,"
    " origin_topic varchar, origin_partition integer, origin_offset bigint, error varchar,"
    " body_hash varchar,"
    " readable boolean, total_minor bigint, currency varchar, status varchar, reason varchar,"
    " saga_version integer, operation varchar, outcome varchar, state_version integer,"
    " said_s double, created_s double, held boolean,"
    " approved boolean, level varchar, restocked bigint",
    "changelog": 'tbl varchar, partition integer, "offset" bigint, key varchar, body_hash varchar',
    "pane": "sli varchar, width_s integer, start_s bigint, partition integer, good bigint,"
    " bad bigint, latencies bigint, body_hash varchar",
    "instant": "at_s double",
    "committed": 'consumer varchar, topic varchar, partition integer, "offset" bigint',
    "log_end": "topic varchar, partition integer, first_offset bigint, before_offset bigint",
    "action": "action varchar, fault varchar, target varchar, phase varchar, at_s double,"
    " seed bigint, lease_s double, detail varchar",
    "loss": 'consumer varchar, topic varchar, partition integer, "offset" bigint, rule varchar,'
    " at_s double",
    "consumes": "consumer varchar, topic varchar, raw boolean",
    "pane_width": "width_s integer, since_s double",
    "edge": "source varchar, target varchar",
    "operation": "event varchar, action varchar",
    "expected_end": "class varchar, rank integer, status varchar, reason varchar",
}

_encode = msgspec.json.Encoder().encode


class Store:
    """One audit's tables; a context manager that removes its files."""

    def __init__(self, directory: Path | None = None, *, memory_mb: int = 1024) -> None:
        """Make an empty store below `directory`. Raises OSError when there is no room for it."""
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="audit-", dir=directory))
        self._db = duckdb.connect(str(self.directory / "audit.duckdb"))
        self._db.execute(f"set memory_limit = '{memory_mb}MB'")
        self._db.execute(f"set threads = {min(THREADS_MAX, os.cpu_count() or 1)}")
        spill = str(self.directory / "spill").replace("'", "''")
        self._db.execute(f"set temp_directory = '{spill}'")
        self._db.execute("set preserve_insertion_order = false")
        for name, columns in TABLES.items():
            self._db.execute(f"create table {name} ({columns})")

    def insert(self, table: str, rows: Iterable[Any]) -> int:
        """Append rows (structs or mappings by column name) chunk by chunk; return how many."""
        count = 0
        chunk: list[Any] = []
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS:
                count += self._load(table, chunk)
                chunk.clear()
        return count + self._load(table, chunk) if chunk else count

    def _load(self, table: str, chunk: Sequence[Any]) -> int:
        path = self.directory / "chunk.ndjson"
        path.write_bytes(b"\n".join(map(_encode, chunk)) + b"\n")
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in _columns(table))
        self._db.execute(
            f"insert into {table} by name select * from read_json(?,"
            f" format = 'newline_delimited', columns = {{{columns}}})",
            [str(path)],
        )
        path.unlink()
        return len(chunk)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Run one statement."""
        self._db.execute(sql, values)

    def rows(
        self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows of a query that returns few."""
        return self._db.execute(sql, values).fetchall()

    def number(self, sql: str, values: Sequence[Any] = ()) -> int:
        """The one number that a query returns; 0 for NULL."""
        return int(self.rows(sql, values)[0][0] or 0)

    def close(self) -> None:
        """Remove everything."""
        self._db.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _columns(table: str) -> list[tuple[str, str]]:
    return [tuple(column.split()) for column in TABLES[table].split(", ")]  # type: ignore[misc]
