"""Statements of `app.db.intake` for orders without idempotency key. Tables: orders, order_item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import intake
from chaos.simulation.statements.registry import Answer, Params, runs
from chaos.simulation.statements.sagas import HISTORY, SAGA, HistoryRow

if TYPE_CHECKING:
    from chaos.simulation.database import Tx

ORDERS, ITEM = "orders", "order_item"


@runs(intake._ORDERS)
async def insert_orders(tx: Tx, p: Params) -> Answer:
    """New orders; those that are there are left as they are."""
    names = ("order_ids", "customer_ids", "totals", "currencies", "addresses", "reviews", "times")
    new = 0
    for one, *columns in zip(*(p[name] for name in names), strict=True):
        new += await tx.insert(ORDERS, one, tuple(columns))
    return new


@runs(intake._ITEMS)
async def insert_items(tx: Tx, p: Params) -> Answer:
    """Their lines."""
    names = ("order_ids", "lines", "product_ids", "quantities", "prices", "tracked")
    new = 0
    for one, line, *columns in zip(*(p[name] for name in names), strict=True):
        new += await tx.insert(ITEM, (one, line), tuple(columns))
    return new


@runs(intake._LOCK)
async def lock_order(tx: Tx, p: Params) -> Answer:
    """Lock an order against other cancellations."""
    return [()] * len(await tx.lock(ORDERS, [p["order_id"]]))


@runs(intake._CANCELLABLE)
async def cancellable(tx: Tx, p: Params) -> Answer:
    """An order's status, and whether a cancellation was asked for before."""
    one = p["order_id"]
    if tx.get(ORDERS, one) is None:
        return []
    saga: Any = tx.get(SAGA, one)
    asked = any(row.order_id == one and row.status == p["requested"] for _, row in tx.rows(HISTORY))
    return [(saga.state if saga else p["created"], asked)]


@runs(intake._HISTORY)
async def note_cancel(tx: Tx, p: Params) -> Answer:
    """A line of history by the API."""
    one = p["order_id"]
    if tx.get(ORDERS, one) is None:
        return 0
    saga: Any = tx.get(SAGA, one)
    version = saga.version if saga else 0
    line = HistoryRow(one, version, "", p["status"], p["reason"], p["cause_id"], p["now"])
    tx.put(HISTORY, tx.server.next_id(), line)
    return 1
