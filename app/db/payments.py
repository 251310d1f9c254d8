"""Payment attempts: one row per order, read under lock and written under version guard.

All statements take a whole batch. Rows are locked in order-id order, so two batches cannot wait
for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from app.db.statements import counted, statement
from app.domain.payment import Attempt

if TYPE_CHECKING:
    from app.db.engine import Transaction

_LOCK = statement(
    """
    SELECT order_id, status, version, charge_id, amount_minor, currency, payment_id, refund_id,
           reason
      FROM payments.payment_attempt
     WHERE order_id = ANY(:order_ids ::uuid[])
     ORDER BY order_id
       FOR UPDATE
    """
)
_INSERT = counted(
    """
    INSERT INTO payments.payment_attempt
           (order_id, status, version, charge_id, amount_minor, currency, payment_id, refund_id,
            reason, arm)
    SELECT new.*, :arm ::text
      FROM unnest(:order_ids ::uuid[], :statuses ::text[], :versions ::int[],
                  :charge_ids ::uuid[], :amounts ::bigint[], :currencies ::text[],
                  :payment_ids ::text[], :refund_ids ::text[], :reasons ::text[]) AS new
    ON CONFLICT (order_id, attempt) DO NOTHING
    """
)
_UPDATE = counted(
    """
    UPDATE payments.payment_attempt AS known
       SET status = new.status, version = new.version, payment_id = new.payment_id,
           refund_id = new.refund_id, reason = new.reason, updated_at = now()
      FROM unnest(:order_ids ::uuid[], :expected ::int[], :statuses ::text[], :versions ::int[],
                  :payment_ids ::text[], :refund_ids ::text[], :reasons ::text[])
           AS new(order_id, expected, status, version, payment_id, refund_id, reason)
     WHERE known.order_id = new.order_id AND known.version = new.expected
    """
)


async def lock(tx: Transaction, order_ids: Iterable[str]) -> dict[str, Attempt]:
    """Return the recorded attempts of those orders that have one, locked until the end of `tx`.

    No orders, no round trip.
    """
    wanted = sorted(set(order_ids))
    rows = await tx.fetch(_LOCK, order_ids=wanted) if wanted else []
    return {
        row[0]: Attempt(
            order_id=row[0],
            status=row[1],
            version=row[2],
            charge_id=row[3],
            amount_minor=row[4],
            currency=row[5],
            payment_id=row[6],
            refund_id=row[7],
            reason=row[8],
        )
        for row in rows
    }


def store(
    tx: Transaction,
    known: dict[str, Attempt],
    changed: Collection[Attempt],
    *,
    arm: str = "stable",
) -> None:
    """Queue `changed`, which were decided on `known` (what `lock` returned).

    `arm` is noted of new ones: who took the order's payment up first.

    When another transaction was faster the COMMIT raises RowsMissed: the batch must be repeated.
    """
    new = [one for one in changed if one.order_id not in known]
    old = [one for one in changed if one.order_id in known]
    if new:
        tx.later(
            _INSERT,
            rows=len(new),
            arm=arm,
            **_columns(new),
            charge_ids=[one.charge_id for one in new],
            amounts=[one.amount_minor for one in new],
            currencies=[one.currency for one in new],
        )
    if old:
        expected = [known[one.order_id].version for one in old]
        tx.later(_UPDATE, rows=len(old), **_columns(old), expected=expected)


def _columns(attempts: list[Attempt]) -> dict[str, Any]:
    return {
        "order_ids": [one.order_id for one in attempts],
        "statuses": [one.status for one in attempts],
        "versions": [one.version for one in attempts],
        "payment_ids": [one.payment_id for one in attempts],
        "refund_ids": [one.refund_id for one in attempts],
        "reasons": [one.reason for one in attempts],
    }
