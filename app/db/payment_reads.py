"""What the API reads of payments; every read is one statement, so consistent in itself."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from app.db.inbox import Status
from app.db.statements import statement
from app.messages.envelope import ATTEMPT_MAX

if TYPE_CHECKING:
    from app.db.engine import Database

CONSUMERS = ("payment", "payment-canary")
"""The consumers of charge commands, by their names in the inbox."""
_DELIVERY = {
    Status.DONE: "DONE",
    Status.INTENT: "CALLING",
    Status.RETRYING: "RETRYING",
    Status.PARKED: "PARKED",
}


class PaymentRow(NamedTuple):
    """The payment of one order; empty texts and None while there is none.

    `delivery` is the name of the command's latest inbox status, `tries` how often it was tried
    since it was last sent, `redrives` how often it was sent again under its id.
    """

    order_id: str
    status: str
    reason: str
    delivery: str
    tries: int
    redrives: int
    arm: str
    amount_minor: int
    currency: str
    payment_id: str
    created_at: datetime | None
    updated_at: datetime | None


# The command may be in the inbox of either consumer, or of both after a change of arms.
_PAYMENT = statement(
    """
    select o.order_id, coalesce(a.status, ''), coalesce(a.reason, ''), i.status,
           coalesce(i.attempt % :tries_max + 1, 0), coalesce(i.attempt / :tries_max, 0),
           coalesce(a.arm, ''), o.total_minor, o.currency,
           coalesce(a.payment_id, ''), a.created_at, greatest(a.updated_at, i.at)
      from orders.orders o
      left join payments.payment_attempt a on a.order_id = o.order_id
      left join lateral
           (select status, attempt, at from ops.inbox
             where consumer = any(:consumers ::text[]) and event_id = a.charge_id
             order by at desc limit 1) i on true
     where o.order_id = :order_id
     order by a.attempt desc limit 1
    """
)


async def payment(db: Database, order_id: str) -> PaymentRow | None:
    """Return the payment of an order, None when there is no such order."""
    rows = await db.fetch(
        _PAYMENT, order_id=order_id, consumers=list(CONSUMERS), tries_max=ATTEMPT_MAX + 1
    )
    if not rows:
        return None
    row = PaymentRow(*rows[0])
    delivery = "" if rows[0][3] is None else _DELIVERY.get(Status(rows[0][3]), "")
    return row._replace(delivery=delivery)
