"""Statements of `app.db.payments`, `inventory` and `shipping`, with their constraints.

Tables: payment_attempt, reservation (with its lines), stock, shipment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2.errors import CheckViolation, ForeignKeyViolation, UniqueViolation

from app.db import inventory, payments, shipping
from chaos.simulation.statements.registry import Answer, Params, expect, runs

if TYPE_CHECKING:
    from chaos.simulation.database import Tx

ATTEMPT, RESERVATION, STOCK, SHIPMENT = "payment_attempt", "reservation", "stock", "shipment"
CHARGE_KEY = "payment_attempt.charge_id"
LINE = "reservation_line"


class AttemptRow(NamedTuple):
    """A row of payments.payment_attempt."""

    status: str
    version: int
    charge_id: str
    amount_minor: int
    currency: str
    payment_id: str
    refund_id: str
    reason: str


class ReservationRow(NamedTuple):
    """A row of inventory.reservation; its lines are rows of their own."""

    status: str
    version: int
    reason: str


class StockRow(NamedTuple):
    """A row of inventory.stock."""

    available: int
    held: int
    consumed: int
    restocked: int


class ShipmentRow(NamedTuple):
    """A row of shipping.shipment."""

    status: str
    version: int
    shipment_id: str
    address: str | None
    reason: str


def rows_of(p: Params, *names: str) -> list[Any]:
    """The columns of a batch as rows."""
    return list(zip(*(p[name] for name in names), strict=True))


@runs(payments._LOCK)
async def lock_attempts(tx: Tx, p: Params) -> Answer:
    """Attempts of these orders, locked in order."""
    keys = await tx.lock(ATTEMPT, sorted(p["order_ids"]))
    return [(key, *tx.get(ATTEMPT, key)) for key in keys]  # type: ignore[misc]


@runs(payments._INSERT)
async def insert_attempts(tx: Tx, p: Params) -> Answer:
    """New attempts; all or none. A charge id stands once."""
    touched = 0
    names = ("order_ids", "statuses", "versions", "charge_ids", "amounts", "currencies")
    for order_id, *columns in rows_of(p, *names, "payment_ids", "refund_ids", "reasons"):
        row = AttemptRow(*columns)
        if await tx.insert(ATTEMPT, order_id, row):
            touched += 1
            if not await tx.insert(CHARGE_KEY, row.charge_id, order_id):
                raise UniqueViolation(f"charge_id {row.charge_id}")
    return expect(touched, p["rows"])


@runs(payments._UPDATE)
async def update_attempts(tx: Tx, p: Params) -> Answer:
    """Change attempts of the version expected; all or none."""
    touched = 0
    names = ("order_ids", "expected", "statuses", "versions")
    for order_id, expected, status, version, *rest in rows_of(
        p, *names, "payment_ids", "refund_ids", "reasons"
    ):
        known = await _at_version(tx, ATTEMPT, order_id, expected)
        if known is not None:
            payment_id, refund_id, reason = rest
            changed = known._replace(status=status, version=version, payment_id=payment_id)
            tx.put(ATTEMPT, order_id, changed._replace(refund_id=refund_id, reason=reason))
            touched += 1
    return expect(touched, p["rows"])


@runs(shipping._LOCK)
async def lock_shipments(tx: Tx, p: Params) -> Answer:
    """Shipments of these orders, locked in order."""
    keys = await tx.lock(SHIPMENT, sorted(p["order_ids"]))
    return [(key, *tx.get(SHIPMENT, key)) for key in keys]  # type: ignore[misc]


@runs(shipping._INSERT)
async def insert_shipments(tx: Tx, p: Params) -> Answer:
    """New shipments; all or none."""
    touched = 0
    names = ("order_ids", "statuses", "versions", "shipment_ids", "addresses", "reasons")
    for order_id, *columns in rows_of(p, *names):
        touched += await tx.insert(SHIPMENT, order_id, ShipmentRow(*columns))
    return expect(touched, p["rows"])


@runs(shipping._UPDATE)
async def update_shipments(tx: Tx, p: Params) -> Answer:
    """Change shipments of the version expected; all or none."""
    touched = 0
    names = ("order_ids", "expected", "statuses", "versions", "reasons")
    for order_id, expected, status, version, reason in rows_of(p, *names):
        known = await _at_version(tx, SHIPMENT, order_id, expected)
        if known is not None:
            changed = known._replace(status=status, version=version, reason=reason)
            tx.put(SHIPMENT, order_id, changed)
            touched += 1
    return expect(touched, p["rows"])


@runs(inventory._LOCK)
async def lock_stock(tx: Tx, p: Params) -> Answer:
    """Reservations in order, then the stock of their lines and of `skus` in order."""
    orders = sorted(p["order_ids"])
    lines = {one: tx.get(LINE, one) for one in orders}
    keys = await tx.lock(RESERVATION, orders)
    answer: list[tuple[Any, ...]] = []
    for key in keys:
        row, held = tx.get(RESERVATION, key), lines[key]
        assert row is not None
        skus = [sku for sku, _ in held] if held else None
        quantities = [quantity for _, quantity in held] if held else None
        answer.append((key, row.status, row.version, row.reason, skus, quantities, 0, 0, 0))
    wanted = set(p["skus"]) | {sku for held in lines.values() if held for sku, _ in held}
    for sku in await tx.lock(STOCK, sorted(wanted)):
        stock = tx.get(STOCK, sku)
        assert stock is not None
        answer.append((sku, None, 0, None, None, None, *stock[:3]))
    return answer


@runs(inventory._STORE)
async def store_stock(tx: Tx, p: Params) -> Answer:
    """Reservations, lines and quantities as decided; every count must be as expected."""
    created = changed = held = moved = 0
    for one, *columns in rows_of(p, "new_ids", "new_statuses", "new_versions", "new_reasons"):
        created += await tx.insert(RESERVATION, one, ReservationRow(*columns))
    names = ("ids", "expected", "statuses", "versions", "reasons")
    for one, expected, status, version, reason in rows_of(p, *names):
        known = await _at_version(tx, RESERVATION, one, expected)
        if known is not None:
            tx.put(RESERVATION, one, ReservationRow(status, version, reason))
            changed += 1
    expect(created, p["created_rows"])
    by_order: dict[str, list[tuple[str, int]]] = {}
    for one, sku, quantity in rows_of(p, "line_ids", "line_skus", "line_quantities"):
        by_order.setdefault(one, []).append((sku, quantity))
    for one, lines in by_order.items():
        if tx.get(RESERVATION, one) is None:
            raise ForeignKeyViolation(one)
        if await tx.insert(LINE, one, tuple(sorted(lines))):
            held += len(lines)
    for sku, *amounts in rows_of(p, "skus", "available", "held", "consumed"):
        if await tx.lock(STOCK, [sku]):
            before: Any = tx.get(STOCK, sku)
            row = StockRow._make((*amounts, before.restocked))
            _check(row)
            tx.put(STOCK, sku, row)
            moved += 1
    expect(changed, p["changed_rows"])
    expect(held, p["held_rows"])
    return expect(moved, p["moved_rows"])


def _check(row: StockRow) -> None:
    if min(row) < 0 or row.available + row.held + row.consumed != row.restocked:
        raise CheckViolation(f"stock {row}")


async def _at_version(tx: Tx, table: str, key: str, expected: int) -> Any:
    """The row, locked, when its version is the one expected."""
    if not await tx.lock(table, [key]):
        return None
    row = tx.get(table, key)
    return row if row is not None and row.version == expected else None
