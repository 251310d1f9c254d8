"""Stock and reservations: locked in a fixed order, then written in one statement per batch.

Reservations are locked in order-id order, then stock rows in SKU order, so two batches cannot wait
for each other in a circle. Quantities are written as they were decided under the lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from app.db.statements import statement
from app.domain.inventory import Reservation, Stock

if TYPE_CHECKING:
    from app.db.engine import Transaction

# One statement and one round trip for both: first the reservations in order-id order, then the
# stock rows of `skus` and of the reservations' lines in SKU order.
_LOCK = statement(
    """
    WITH locked AS (
        SELECT order_id, status, version, reason
          FROM inventory.reservation
         WHERE order_id = ANY(:order_ids ::uuid[])
         ORDER BY order_id
           FOR UPDATE),
    line AS (
        SELECT order_id, array_agg(sku ORDER BY sku) AS skus, array_agg(qty ORDER BY sku) AS qtys
          FROM inventory.reservation_line
         WHERE order_id = ANY(:order_ids ::uuid[])
         GROUP BY order_id),
    stock AS (
        SELECT sku, available, held, consumed
          FROM inventory.stock
         WHERE sku = ANY(:skus ::text[]) OR sku IN (SELECT unnest(skus) FROM line)
         ORDER BY sku
           FOR UPDATE)
    SELECT order_id::text, status, version, reason, skus, qtys, 0, 0, 0::bigint
      FROM locked LEFT JOIN line USING (order_id)
     UNION ALL
    SELECT sku, NULL, 0, NULL, NULL, NULL, available, held, consumed FROM stock
    """
)
_STORE = statement(
    """
    WITH created AS (
        INSERT INTO inventory.reservation (order_id, status, version, reason)
        SELECT * FROM unnest(:new_ids ::uuid[], :new_statuses ::text[], :new_versions ::int[],
                             :new_reasons ::text[])
        ON CONFLICT (order_id) DO NOTHING
        RETURNING 1),
    changed AS (
        UPDATE inventory.reservation AS known
           SET status = new.status, version = new.version, reason = new.reason, updated_at = now()
          FROM unnest(:ids ::uuid[], :expected ::int[], :statuses ::text[], :versions ::int[],
                      :reasons ::text[]) AS new(order_id, expected, status, version, reason)
         WHERE known.order_id = new.order_id AND known.version = new.expected
        RETURNING 1),
    held AS (
        INSERT INTO inventory.reservation_line (order_id, sku, qty)
        SELECT * FROM unnest(:line_ids ::uuid[], :line_skus ::text[], :line_quantities ::int[])
        ON CONFLICT (order_id, sku) DO NOTHING
        RETURNING 1),
    moved AS (
        UPDATE inventory.stock AS known
           SET available = new.available, held = new.held, consumed = new.consumed,
               updated_at = now()
          FROM unnest(:skus ::text[], :available ::int[], :held ::int[], :consumed ::bigint[])
               AS new(sku, available, held, consumed)
         WHERE known.sku = new.sku
        RETURNING 1)
    SELECT ops.expect_rows((SELECT count(*) FROM created), :created_rows),
           ops.expect_rows((SELECT count(*) FROM changed), :changed_rows),
           ops.expect_rows((SELECT count(*) FROM held), :held_rows),
           ops.expect_rows((SELECT count(*) FROM moved), :moved_rows)
    """
)


async def lock(
    tx: Transaction, order_ids: Iterable[str], skus: Iterable[str]
) -> tuple[dict[str, Reservation], dict[str, Stock]]:
    """Return what exists of it, locked until the end of `tx`: the reservations of `order_ids`,
    the stock rows of `skus` and of the reservations' lines. One round trip, none for nothing.
    """
    ids, named = sorted(set(order_ids)), sorted(set(skus))
    rows = await tx.fetch(_LOCK, order_ids=ids, skus=named) if ids or named else []
    reservations: dict[str, Reservation] = {}
    stock: dict[str, Stock] = {}
    for key, status, version, reason, line_skus, quantities, *amounts in rows:
        if status is None:
            stock[key] = Stock(key, *amounts)
            continue
        lines = tuple(sorted(zip(line_skus or (), quantities or (), strict=True)))
        reservations[key] = Reservation(
            order_id=key, status=status, version=version, reason=reason, lines=lines
        )
    return reservations, stock


def store(
    tx: Transaction,
    known: Mapping[str, Reservation],
    reservations: Collection[Reservation],
    stock: Collection[Stock],
) -> None:
    """Queue changed reservations (decided on `known`), the lines of new ones, and stock rows.

    When another transaction recorded a reservation meanwhile the COMMIT raises RowsMissed: the
    batch must be repeated. It raises a check violation rather than let a quantity fall below 0.
    """
    if not reservations and not stock:
        return
    new = [one for one in reservations if one.order_id not in known]
    old = [one for one in reservations if one.order_id in known]
    lines = [(one.order_id, sku, quantity) for one in new for sku, quantity in one.lines]
    tx.later(
        _STORE,
        new_ids=[one.order_id for one in new],
        new_statuses=[one.status for one in new],
        new_versions=[one.version for one in new],
        new_reasons=[one.reason for one in new],
        ids=[one.order_id for one in old],
        expected=[known[one.order_id].version for one in old],
        statuses=[one.status for one in old],
        versions=[one.version for one in old],
        reasons=[one.reason for one in old],
        line_ids=[line[0] for line in lines],
        line_skus=[line[1] for line in lines],
        line_quantities=[line[2] for line in lines],
        skus=[row.sku for row in stock],
        available=[row.available for row in stock],
        held=[row.held for row in stock],
        consumed=[row.consumed for row in stock],
        created_rows=len(new),
        changed_rows=len(old),
        held_rows=len(lines),
        moved_rows=len(stock),
    )
