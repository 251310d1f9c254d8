"""What operators read of sagas: where each stands, since when, and which ones wait for a person.

Guarantees: every list is bounded by its caller's `limit` and paged by key, newest order first. One
of running sagas looks at those only; one of ended sagas looks at LOOKED_MAX orders at most.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from app.db import order_reads
from app.db.cursor import NEWEST, OLDEST, Cursor
from app.db.statements import statement
from app.domain.definition import FINAL

if TYPE_CHECKING:
    from app.db.engine import Database, Transaction


class SagaRow(NamedTuple):
    """One saga as stored; `body` is packed by the domain.

    `since` is when it entered its state and `why` what its history says of that; `updated_at` also
    moves with every re-drive.
    """

    order_id: str
    version: int
    state: str
    terminal: bool
    body: bytes
    next_due: datetime | None
    created_at: datetime
    updated_at: datetime
    since: datetime | None
    why: str | None


class SagaFilter(NamedTuple):
    """Which sagas; empty and None ask for nothing. `entered_before`: not in another state since."""

    state: str = ""
    reason: str = ""
    entered_before: datetime | None = None

    @property
    def running(self) -> bool:
        """Whether only sagas that are not over are meant: there are few of them."""
        return self.entered_before is not None or (bool(self.state) and self.state not in FINAL)


EVERY_SAGA = SagaFilter()


class SagaPage(NamedTuple):
    """A part of a list; `following` continues it and is None at its end."""

    sagas: list[SagaRow]
    following: Cursor | None


_COLUMNS = (
    "s.order_id, s.version, s.state, s.terminal, s.body, s.next_due, s.created_at, s.updated_at,"
    " entered.at, entered.reason"
)
_ENTERED = (
    "left join lateral (select h.at, h.reason from orders.order_history h"
    " where h.order_id = s.order_id and h.event <> '' and h.id > coalesce((select max(p.id)"
    " from orders.order_history p where p.order_id = s.order_id and p.event <> ''"
    " and p.status <> s.state), 0) order by h.id limit 1) entered on true"
)
_ONE = statement(f"select {_COLUMNS} from orders.saga s {_ENTERED} where s.order_id = :order_id")
_LISTED = statement(
    f"select {_COLUMNS}, o.created_at from orders.orders o"
    f" join orders.saga s on s.order_id = o.order_id {_ENTERED}"
    f" where {order_reads.OLDER} and {order_reads.NOT_OLDER_THAN}"
    " and (:state = '' or s.state = :state) and (:reason = '' or s.reason = :reason)"
    " and (not :running or not s.terminal)"
    " and (:entered_before ::timestamptz is null or entered.at <= :entered_before ::timestamptz)"
    f" {order_reads.NEWEST_FIRST}"
)


async def saga(db: Database | Transaction, order_id: str) -> SagaRow | None:
    """Return the saga of an order; None before the orchestrator has seen it."""
    rows = await db.fetch(_ONE, order_id=order_id)
    return SagaRow(*rows[0]) if rows else None


async def sagas(
    db: Database, limit: int, before: Cursor = NEWEST, wanted: SagaFilter = EVERY_SAGA
) -> SagaPage:
    """Return at most `limit` sagas as `wanted`, of orders older than `before`.

    A page of ended sagas with a filter may be short, even empty, and not be the last.
    """
    last = None
    if not wanted.running and (wanted.state or wanted.reason):
        last = await order_reads.looked_to(db, before)
    start = last or OLDEST
    rows = await db.fetch(
        _LISTED,
        before_at=before.at,
        before_id=before.id,
        from_at=start.at,
        from_id=start.id,
        running=wanted.running,
        limit=limit,
        **wanted._asdict(),
    )
    if len(rows) == limit:
        last = Cursor(rows[-1][-1], rows[-1][0])
    return SagaPage([SagaRow(*row[:-1]) for row in rows], last)
