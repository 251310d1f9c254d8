"""Waiting until nothing moves: only at rest can books of different parties be compared.

At rest means: every order final or parked, no saga outstanding, every cancellation decided, outbox
empty, and twice in a row, a pause apart, the same numbers of rows in PostgreSQL and the same ends
of topics. A system that does not come to rest in time is judged as it stands; what is unfinished
then is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from time import monotonic, sleep
from typing import Any, NamedTuple

import psycopg2

from chaos.reconcile.ledgers import UnreadableError

PAUSE_S = 1.0
CONNECT_TIMEOUT_S = 5

_LOOK = """
select (select count(*) from orders.orders),
       (select count(*) from orders.orders o left join orders.saga s on s.order_id = o.order_id
         where coalesce(s.state, '') not in ('COMPLETED', 'CANCELLED', 'REJECTED', 'PARKED')),
       (select count(*) from orders.saga where not terminal and state <> 'PARKED'),
       (select count(*) from ops.outbox),
       (select count(*) from ops.inbox)
"""
# The API's line of a history has no event; the orchestrator's line about it says that it was
# decided. Without one it is under way, unless the order had ended already: then none is written.
_UNDECIDED = """
select count(distinct asked.order_id)
  from orders.order_history asked join orders.saga s on s.order_id = asked.order_id
 where asked.event = '' and asked.status = 'cancel_requested'
   and s.state in ('COMPLETED', 'PARKED')
   and not exists (select from orders.order_history decided
                    where decided.order_id = asked.order_id and decided.event = 'cancel_requested')
"""


class Look(NamedTuple):
    """One look: counts of PostgreSQL and the sum of all end offsets.

    `undecided` counts cancellations of orders that are not on their way; it reads the whole
    history, so it is 0 while anything else is busy.
    """

    orders: int
    running: int
    outstanding: int
    outbox: int
    inbox: int
    undecided: int = 0
    records: int = 0

    @property
    def busy(self) -> str:
        """What is still under way, empty when nothing is."""
        parts = []
        if self.running:
            parts.append(f"{self.running} of {self.orders} orders on their way")
        if self.outstanding > self.running:
            parts.append(f"{self.outstanding} sagas await an answer")
        if self.outbox:
            parts.append(f"{self.outbox} events in the outbox")
        if self.undecided:
            parts.append(f"{self.undecided} cancellations undecided")
        return ", ".join(parts)


def look(dsn: str, records: Callable[[], int]) -> Look:
    """Look once. Raises UnreadableError when a source does not answer."""
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.set_session(readonly=True)
            with connection.cursor() as cursor:
                cursor.execute(_LOOK)
                seen = Look(*_counts(cursor))
                if not seen.busy:
                    cursor.execute(_UNDECIDED)
                    seen = seen._replace(undecided=_counts(cursor)[0])
    except psycopg2.Error as error:
        raise UnreadableError(f"PostgreSQL: {' '.join(str(error).split())}") from None
    return seen._replace(records=records())


def _counts(cursor: Any) -> tuple[int, ...]:
    counts: tuple[int, ...] | None = cursor.fetchone()
    assert counts is not None, "a select of counts has one row"
    return counts


def wait_quiet(
    dsn: str,
    records: Callable[[], int],
    *,
    deadline_s: float,
    progress: Callable[[str], None] = lambda _: None,
    pause_s: float = PAUSE_S,
) -> str:
    """Wait until nothing moves; return why it still does after `deadline_s`, empty when at rest.

    A source that does not answer meanwhile is waited for like anything else.
    """
    end_s = monotonic() + deadline_s
    before: Look | None = None
    while True:
        try:
            now = look(dsn, records)
            busy = now.busy or ("" if now == before else "settling")
        except UnreadableError as error:
            now, busy = None, str(error)
        if not busy:
            return ""
        if now is None or now.busy:
            progress(busy)
        if monotonic() >= end_s:
            return busy
        before = now
        sleep(min(pause_s, max(0.0, end_s - monotonic())))
