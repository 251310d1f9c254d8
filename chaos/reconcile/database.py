"""PostgreSQL, read with SQL of its own in one repeatable-read, read-only transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import psycopg2.extensions

from chaos.reconcile.evidence import Order, Payment, Saga, Snapshot, Step, Stock
from chaos.reconcile.ledgers import UnreadableError

CONNECT_TIMEOUT_S = 10
FETCH_ROWS = 10_000

_ORDERS = (
    "select o.order_id::text, coalesce(s.state, 'PENDING'), coalesce(s.reason, ''),"
    " o.total_minor, o.currency"
    " from orders.orders o left join orders.saga s on s.order_id = o.order_id"
)
_SAGAS = "select order_id::text, state, version, terminal from orders.saga"
_HISTORY = (
    "select order_id::text, event, status, saga_version from orders.order_history order by id"
)
_ITEMS = (
    "select order_id::text, product_id, sum(quantity)::bigint from orders.order_item"
    " where tracked group by 1, 2"
)
_KEYS = "select key, order_id::text from orders.idempotency"
_PAYMENTS = (
    "select order_id::text, status, charge_id::text, amount_minor, currency"
    " from payments.payment_attempt order by order_id, attempt"
)
_STOCK = "select sku, available, held, consumed, restocked from inventory.stock"
_RESERVATIONS = "select order_id::text, status from inventory.reservation"
_RESERVED = "select order_id::text, sku, qty from inventory.reservation_line"
_SHIPMENTS = "select order_id::text, status from shipping.shipment"
_EXISTS = "select 1 from orders.orders where order_id::text = any(%s) limit 1"
_WAITING = "select topic, count(*) from ops.outbox group by topic"
_PARKED = "select topic, count(*) from ops.outbox_parked group by topic"


def orders_exist(dsn: str, order_ids: Iterable[str]) -> bool:
    """Whether PostgreSQL knows one of `order_ids` now. Raises UnreadableError."""
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.set_session(readonly=True, autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute(_EXISTS, (sorted(order_ids),))
                return cursor.fetchone() is not None
    except psycopg2.Error as error:
        raise UnreadableError(f"PostgreSQL: {' '.join(str(error).split())}") from None


def read_snapshot(dsn: str) -> Snapshot:
    """Return everything at one instant. Raises UnreadableError when PostgreSQL cannot be read."""
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            return _read(connection)
    except psycopg2.Error as error:
        raise UnreadableError(f"PostgreSQL: {' '.join(str(error).split())}") from None


def _read(connection: Any) -> Snapshot:
    history: defaultdict[str, list[Step]] = defaultdict(list)
    for row in _rows(connection, _HISTORY):
        history[row[0]].append(Step(*row))
    payments: defaultdict[str, list[Payment]] = defaultdict(list)
    for row in _rows(connection, _PAYMENTS):
        payments[row[0]].append(Payment(*row))
    shipments: defaultdict[str, list[str]] = defaultdict(list)
    for order_id, status in _rows(connection, _SHIPMENTS):
        shipments[order_id].append(status)
    return Snapshot(
        orders={row[0]: Order(*row) for row in _rows(connection, _ORDERS)},
        sagas={row[0]: Saga(*row) for row in _rows(connection, _SAGAS)},
        history=dict(history),
        items=_units(connection, _ITEMS),
        keys=dict(_rows(connection, _KEYS)),
        payments=dict(payments),
        stock={row[0]: Stock(*row) for row in _rows(connection, _STOCK)},
        reservations=dict(_rows(connection, _RESERVATIONS)),
        reserved=_units(connection, _RESERVED),
        shipments=dict(shipments),
        waiting=dict(_rows(connection, _WAITING)),
        parked=dict(_rows(connection, _PARKED)),
    )


def _units(connection: Any, sql: str) -> dict[str, dict[str, int]]:
    units: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for order_id, sku, quantity in _rows(connection, sql):
        units[order_id][sku] = quantity
    return dict(units)


def _rows(connection: Any, sql: str) -> Iterator[tuple[Any, ...]]:
    """Rows of one statement through a server-side cursor, so that memory holds only facts."""
    with connection.cursor("reconcile") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(sql)
        yield from cursor
