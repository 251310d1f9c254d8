"""Shipments: one row per order, locked in order-id order and written under version guard."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from app.db.statements import counted, statement
from app.domain.shipping import Shipment

if TYPE_CHECKING:
    from app.db.engine import Transaction

_LOCK = statement(
    """
    SELECT order_id, status, version, shipment_id, address, reason
      FROM shipping.shipment
     WHERE order_id = ANY(:order_ids ::uuid[])
     ORDER BY order_id
       FOR UPDATE
    """
)
_INSERT = counted(
    """
    INSERT INTO shipping.shipment (order_id, status, version, shipment_id, address, reason)
    SELECT * FROM unnest(:order_ids ::uuid[], :statuses ::text[], :versions ::int[],
                         :shipment_ids ::text[], :addresses ::text[], :reasons ::text[])
    ON CONFLICT (order_id) DO NOTHING
    """
)
_UPDATE = counted(
    """
    UPDATE shipping.shipment AS known
       SET status = new.status, version = new.version, reason = new.reason, updated_at = now()
      FROM unnest(:order_ids ::uuid[], :expected ::int[], :statuses ::text[], :versions ::int[],
                  :reasons ::text[]) AS new(order_id, expected, status, version, reason)
     WHERE known.order_id = new.order_id AND known.version = new.expected
    """
)


async def lock(tx: Transaction, order_ids: Iterable[str]) -> dict[str, Shipment]:
    """Return the shipments of those orders that have one, locked until the end of `tx`.

    No orders, no round trip.
    """
    wanted = sorted(set(order_ids))
    rows = await tx.fetch(_LOCK, order_ids=wanted) if wanted else []
    return {
        row[0]: Shipment(
            order_id=row[0],
            status=row[1],
            version=row[2],
            shipment_id=row[3],
            address=row[4],
            reason=row[5],
        )
        for row in rows
    }


def store(tx: Transaction, known: Mapping[str, Shipment], changed: Collection[Shipment]) -> None:
    """Queue `changed`, which were decided on `known` (what `lock` returned).

    When another transaction was faster the COMMIT raises RowsMissed: the batch must be repeated.
    """
    new = [one for one in changed if one.order_id not in known]
    old = [one for one in changed if one.order_id in known]
    if new:
        tx.later(
            _INSERT,
            rows=len(new),
            **_columns(new),
            shipment_ids=[one.shipment_id for one in new],
            addresses=[one.address for one in new],
        )
    if old:
        expected = [known[one.order_id].version for one in old]
        tx.later(_UPDATE, rows=len(old), **_columns(old), expected=expected)


def _columns(shipments: list[Shipment]) -> dict[str, Any]:
    return {
        "order_ids": [one.order_id for one in shipments],
        "statuses": [one.status for one in shipments],
        "versions": [one.version for one in shipments],
        "reasons": [one.reason for one in shipments],
    }
