"""Checks of goods: stock units, what orders hold of them, and shipments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from chaos.reconcile.evidence import COMPLETED, FINAL, Snapshot
from chaos.reconcile.verdict import Check, found

SHIPPED = "SHIPPED"


def stock_conserved(snapshot: Snapshot) -> Check:
    """Per SKU: put in - consumed - held = available, no number is negative, consumed is what the
    completed orders bought, and nothing is held once all orders are final.
    """
    consumed = _units(snapshot, "COMMITTED")
    held = _units(snapshot, "HELD")
    running = any(order.status not in FINAL for order in snapshot.orders.values())

    def wrong() -> Iterator[tuple[str, str]]:
        for row in snapshot.stock.values():
            if row.available != row.restocked - row.consumed - row.held:
                yield (
                    row.sku,
                    (
                        f"{row.restocked} put in - {row.consumed} consumed - {row.held} held"
                        f" is not the {row.available} available"
                    ),
                )
            if min(row.available, row.held, row.consumed) < 0:
                yield row.sku, f"negative: {row}"
            if row.consumed != consumed[row.sku]:
                yield row.sku, f"{row.consumed} consumed, orders consumed {consumed[row.sku]}"
            if row.held != held[row.sku] or (row.held and not running):
                yield row.sku, f"{row.held} held, running orders hold {held[row.sku]}"

    return found("stock", "stock: put in - consumed - held = available", len(snapshot.stock),
                 wrong(), f"{sum(consumed.values())} units consumed")  # fmt: skip


def reservations_right(snapshot: Snapshot) -> Check:
    """A completed order consumed exactly its tracked lines; any other final order holds nothing."""
    ended = [order for order in snapshot.orders.values() if order.status in FINAL]

    def wrong() -> Iterator[tuple[str, str]]:
        for order in ended:
            state = snapshot.reservations.get(order.order_id, "")
            if order.status != COMPLETED:
                if state in ("HELD", "COMMITTED"):
                    yield order.order_id, f"{order.status}, but its stock is {state}"
                continue
            bought = snapshot.items.get(order.order_id, {})
            taken = snapshot.reserved.get(order.order_id, {})
            if state != "COMMITTED":
                yield order.order_id, f"COMPLETED, but its stock is {state or 'not reserved'}"
            elif dict(taken) != dict(bought):
                yield order.order_id, f"bought {dict(bought)}, took {dict(taken)}"

    return found("reservations", "orders took what they bought, or nothing", len(ended), wrong())


def shipped_once(snapshot: Snapshot) -> Check:
    """A completed order has exactly one shipment, any other final order none."""
    ended = [order for order in snapshot.orders.values() if order.status in FINAL]

    def wrong() -> Iterator[tuple[str, str]]:
        for order in ended:
            shipped = sum(s == SHIPPED for s in snapshot.shipments.get(order.order_id, ()))
            wanted = 1 if order.status == COMPLETED else 0
            if shipped != wanted:
                yield order.order_id, f"{order.status} with {shipped} shipments"
        for order_id in snapshot.shipments.keys() - snapshot.orders.keys():
            yield order_id, "a shipment without an order"

    return found("shipment", "one shipment per completed order, none else", len(ended), wrong())


def _units(snapshot: Snapshot, state: str) -> Counter[str]:
    units: Counter[str] = Counter()
    for order_id, held in snapshot.reservations.items():
        if held == state:
            units.update(snapshot.reserved.get(order_id, {}))
    return units
