"""PostgreSQL at one instant: SQL of our own in one repeatable-read, read-only transaction.

Memory holds one chunk of rows; tables travel through server-side cursors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import psycopg2
import psycopg2.extensions
import psycopg2.extras

from chaos.auditor import identity
from chaos.auditor.bodies import fingerprint
from chaos.auditor.platform import CANCEL, CREATED, REVIEWED
from chaos.auditor.sources import UnreadableError
from chaos.auditor.store import Store

CONNECT_TIMEOUT_S = 10
FETCH_ROWS = 10_000
PROGRESS_ROWS = 500_000

_QUERIES: Mapping[str, str] = {
    "orders": "select order_id::text, customer_id, total_minor, currency,"
    " extract(epoch from created_at)::float8 as created_s from orders.orders",
    "item": "select order_id::text, line, product_id as sku, quantity, unit_price_minor, tracked"
    " from orders.order_item",
    "saga": "select order_id::text, version, state, reason, terminal, body,"
    " extract(epoch from updated_at)::float8 as updated_s from orders.saga",
    "history": "select id, order_id::text, saga_version as version, event, status, reason,"
    " cause_id, extract(epoch from at)::float8 as at_s from orders.order_history",
    "idempotency": "select key, order_id::text, encode(body_hash, 'hex') as body_hash"
    " from orders.idempotency",
    "attempt": "select order_id::text, attempt as number, status, version, charge_id::text,"
    " refund_id, amount_minor, currency, payment_id,"
    " extract(epoch from updated_at)::float8 as updated_s from payments.payment_attempt",
    "stock": "select sku, available, held, consumed, restocked from inventory.stock",
    "reservation": "select order_id::text, status, version,"
    " extract(epoch from updated_at)::float8 as updated_s from inventory.reservation",
    "reservation_line": "select order_id::text, sku, qty as quantity"
    " from inventory.reservation_line",
    "shipment": "select order_id::text, status, version,"
    " extract(epoch from updated_at)::float8 as updated_s from shipping.shipment",
    "outbox": "select event_id::text, topic, aggregate_id as order_id, false as parked"
    " from ops.outbox union all select event_id::text, topic, aggregate_id, true"
    " from ops.outbox_parked",
    "letter_index": 'select topic, partition, "offset", origin_topic, origin_partition,'
    " origin_offset, consumer, event_id, key as order_id,"
    " extract(epoch from at)::float8 as at_s from ops.dead_letter",
    "review": "select order_id::text, decision from orders.fraud_review",
    "act": "select case when detail->>'event_id' ~ '^[0-9a-f-]{36}$' then detail->>'event_id' end"
    " as event_id, action, actor, target, reason, extract(epoch from at)::float8 as at_s"
    " from ops.audit_log",
    "notification": "select id::text, subject, kind, occurrence, event_id::text, status,"
    " extract(epoch from sent_at)::float8 as sent_s from notifications.notification",
    "pane": "select sli, width_s, extract(epoch from start_at)::bigint as start_s, partition, good,"
    " bad, sketch from slo.pane",
    "instant": "select extract(epoch from now())::float8 as at_s",
    "inbox": 'select consumer, event_id::text, status, attempt, topic, partition, "offset",'
    " extract(epoch from at)::float8 as at_s, outputs from ops.inbox",
}
_unpack = msgspec.msgpack.Decoder().decode


def read_snapshot(dsn: str, store: Store, progress: Callable[[str], None]) -> None:
    """Copy every table the audit needs, all at one instant. Raises UnreadableError."""
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            for table, sql in _QUERIES.items():
                rows = _counted(_rows(connection, sql), table, progress)
                count = _copy(rows, store, table)
                progress(f"PostgreSQL: {count:,} rows of {table}")
    except psycopg2.Error as error:
        raise UnreadableError(f"PostgreSQL: {' '.join(str(error).split())}") from None


def _copy(rows: Iterator[dict[str, Any]], store: Store, table: str) -> int:
    if table == "inbox":
        return _copy_inbox(rows, store)
    shape = {
        "orders": _order,
        "saga": _saga,
        "review": _review,
        "letter_index": _letter,
        "pane": _pane,
    }.get(table)
    return store.insert(table, map(shape, rows) if shape else rows)


def _counted(
    rows: Iterator[dict[str, Any]], table: str, progress: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        if number % PROGRESS_ROWS == 0:
            progress(f"PostgreSQL: {number:,} rows of {table} so far")
        yield row


def _rows(connection: Any, sql: str) -> Iterator[dict[str, Any]]:
    with connection.cursor("audit") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(sql)
        names: list[str] = []
        for row in cursor:
            names = names or [column.name for column in cursor.description]
            yield dict(zip(names, row, strict=True))


def _order(row: dict[str, Any]) -> dict[str, Any]:
    """An order, with the ids its creation and its cancellation must have."""
    row["created_event"] = identity.of_order(row["order_id"], CREATED)
    row["cancel_event"] = identity.of_order(row["order_id"], CANCEL)
    return row


def _review(row: dict[str, Any]) -> dict[str, Any]:
    """A score, with the id that the event of its decision must have."""
    row["reviewed_event"] = identity.of_order(row["order_id"], REVIEWED)
    return row


def _saga(row: dict[str, Any]) -> dict[str, Any]:
    row["body_hash"] = digest(row.pop("body"))
    return row


def _pane(row: dict[str, Any]) -> dict[str, Any]:
    """A pane, with the fingerprint that its copy in a changelog must have."""
    sketch = row.pop("sketch")
    facts = pane_facts({"good": row["good"], "bad": row["bad"], "sketch": sketch})
    return {**row, "latencies": facts.latencies, "body_hash": facts.body_hash}


class PaneFacts(NamedTuple):
    """How many latencies a pane holds, and what is the same for equal panes."""

    latencies: int
    body_hash: str


def pane_facts(pane: Mapping[str, Any]) -> PaneFacts:
    """Read a pane as PostgreSQL and the changelog hold it. Raises KeyError, ValueError, TypeError
    for anything else."""
    sketch = pane["sketch"]
    buckets = sorted((int(bucket), int(count)) for bucket, count in sketch["buckets"].items())
    zero = int(sketch["zero"])
    body = msgspec.json.encode([int(pane["good"]), int(pane["bad"]), zero, buckets])
    return PaneFacts(zero + sum(count for _, count in buckets), digest(body))


def ever_ran(dsn: str, role: str) -> bool:
    """Whether a worker of `role` was ever started. Raises UnreadableError."""
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.set_session(readonly=True)
            with connection.cursor() as cursor:
                cursor.execute("select exists (select from ops.worker_run where role = %s)", [role])
                return bool(cursor.fetchone()[0])
    except psycopg2.Error as error:
        raise UnreadableError(f"PostgreSQL: {' '.join(str(error).split())}") from None


def _letter(row: dict[str, Any]) -> dict[str, Any]:
    """An index entry, with the ids that its junk may hide."""
    row["event_id"] = _uuid(row["event_id"].encode())
    row["order_id"] = _uuid(bytes(row["order_id"] or b""))
    return row


def digest(raw: bytes | memoryview | None) -> str:
    """The fingerprint under which equal bytes are equal."""
    return "" if raw is None else blake2b(raw, digest_size=8).hexdigest()


def _copy_inbox(rows: Iterator[dict[str, Any]], store: Store) -> int:
    """Inbox rows, and one row for every output that is stored with them."""
    outputs: list[dict[str, Any]] = []

    def without_outputs() -> Iterator[dict[str, Any]]:
        for row in rows:
            outputs.extend(_stored(row, bytes(row.pop("outputs"))))
            yield row
            if len(outputs) >= FETCH_ROWS:
                store.insert("stored_output", outputs)
                outputs.clear()

    count = store.insert("inbox", without_outputs())
    store.insert("stored_output", outputs)
    return count


def _stored(row: dict[str, Any], packed: bytes) -> Iterator[dict[str, Any]]:
    """The outputs of one inbox row: a msgpack array of (topic, key, value, headers, ...)."""
    if packed in (b"", b"\x90"):
        return
    try:
        for topic, _, value, headers, *_ in _unpack(packed):
            event_id = next((text for name, text in headers if name == "ce_id"), b"")
            yield {
                "consumer": row["consumer"],
                "cause_id": row["event_id"],
                "status": row["status"],
                "topic": topic,
                "event_id": _uuid(event_id),
                "body_hash": digest(fingerprint(value)),
            }
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise UnreadableError(
            f"PostgreSQL: outputs of {row['consumer']} for {row['event_id']}: {error}"
        ) from None


def _uuid(raw: bytes) -> str | None:
    text = raw.decode("latin-1").replace("-", "").lower()
    return text if len(text) == 32 and all(one in "0123456789abcdef" for one in text) else None
