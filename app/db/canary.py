"""What PostgreSQL knows of both arms of the canary, and who may act on it.

A charge belongs to the arm that took it up first (`payment_attempt.arm`). It failed when its
command in the inbox of the arm's own consumer was tried more than once or waits for another try.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from app.db.inbox import Status
from app.db.statements import statement
from app.domain.canary import ArmFigures
from app.messages.envelope import ATTEMPT_MAX

if TYPE_CHECKING:
    from typing import Any

    from app.db.engine import Transaction
    from app.db.statements import Statement

CONSUMER_OF_ARM: Final[Mapping[str, str]] = {"stable": "payment", "canary": "payment-canary"}
_LEADER: Final = 0x63616E617279  # "canary"

# The order's first line of a payment says when the charge was asked for: what waits in the topic
# counts. A refund changes `updated_at`, so the latency of what was refunded is not known any more.
_FIGURES = statement(
    f"""
    with sample as (
        select a.order_id, a.charge_id, a.status, a.created_at, a.updated_at
          from payments.payment_attempt a
         where a.created_at >= :since and a.created_at < :until and a.arm = :arm
           and not (a.status = 'CANCELLED' and a.version = 1)
         order by a.created_at desc limit :samples_max),
    charge as (
        select s.status, coalesce(i.status, {Status.DONE:d}) as delivery,
               coalesce(i.attempt, 0) % :tries_max as tries,
               extract(epoch from case
                   when s.status in ('CHARGED', 'DECLINED') then s.updated_at
                   when s.status = 'INTENT' then now()
               end - least(s.created_at, asked.at)) * 1000 as ms
          from sample s
          left join ops.inbox i on i.consumer = :consumer and i.event_id = s.charge_id
          left join lateral
               (select at from orders.order_history h
                 where h.order_id = s.order_id and h.status = 'PAYMENT_PENDING'
                 order by h.id limit 1) asked on true)
    select count(*),
           count(*) filter (where status in ('CHARGED', 'REFUNDING', 'REFUNDED')),
           count(*) filter (where status = 'DECLINED'),
           count(*) filter (where delivery = {Status.RETRYING:d}),
           count(*) filter (where delivery = {Status.PARKED:d}),
           count(*) filter (where delivery not in ({Status.RETRYING:d}, {Status.PARKED:d})
                              and tries > 0),
           count(*) filter (where status in ('EXPIRED', 'CANCELLING', 'CANCELLED')),
           count(*) filter (where status = 'INTENT'),
           percentile_cont(0.5) within group (order by ms),
           percentile_cont(0.95) within group (order by ms)
      from charge
    """
)
_LEAD = statement("select pg_try_advisory_xact_lock(:key)")
_SERIALISE = statement("select pg_advisory_xact_lock(:key)")


class Reader(Protocol):
    """A database or a transaction."""

    async def fetch(self, statement: Statement, /, **params: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""


async def figures(
    reader: Reader, arm: str, since: datetime, until: datetime, samples_max: int
) -> ArmFigures:
    """Return what became of the charges that `arm` took up in [since, until).

    Of more than `samples_max` the newest are read.
    """
    rows = await reader.fetch(
        _FIGURES,
        arm=arm,
        consumer=CONSUMER_OF_ARM[arm],
        since=since,
        until=until,
        samples_max=samples_max,
        tries_max=ATTEMPT_MAX + 1,
    )
    *counts, p50, p95 = rows[0]
    return ArmFigures(*counts, *(None if one is None else float(one) for one in (p50, p95)))


async def lead(reader: Reader) -> bool:
    """Whether this transaction alone may act on the canary, until it ends."""
    rows = await reader.fetch(_LEAD, key=_LEADER)
    return bool(rows[0][0])


async def serialise(tx: Transaction) -> None:
    """Wait until nobody else acts on the canary, and let nobody do so until `tx` ends."""
    await tx.fetch(_SERIALISE, key=_LEADER)
