"""How long a fault kept work from being done: until the first new effect, by PostgreSQL's books.

Never by a health page. A worker has recovered when an inbox row of its consumer stands on a
partition that it had owned; a relay or the broker when an order that was accepted since has reached
Kafka and its saga, for a batch fetched before needs no broker; role web when an order was accepted.
Work must flow, or no recovery is seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import psycopg2

from app.roles import ROLES
from chaos.nemesis.world import Partition, World, role_of

LOOK_S = 0.1
DONE = 0
"""app.db.inbox.Status.DONE, which says that a gateway's answer was recorded."""

_INBOX = "select min(at) from ops.inbox where at > to_timestamp(%s)"
_ACCEPTED = (
    "select min(created_at) from orders.orders where created_at > to_timestamp(%s)"
    " and created_at < now() + interval '1 minute'"
)
_PUBLISHED = (
    "select min(h.at) from orders.order_history h join orders.orders o using (order_id)"
    " where h.event = 'created' and o.created_at > to_timestamp(%s) and h.at >= o.created_at"
    " and h.at < now() + interval '1 minute'"
)
"""These two are by the clock of a worker, not by PostgreSQL's as an inbox row is, and fault `clock`
may have set it: what is of the future, or older than its cause, does not count."""


class Sign(NamedTuple):
    """A statement whose first parameter is a time and whose answer is the first effect after."""

    sql: str
    values: tuple[object, ...] = ()


def sign_of(target: str, owned: Iterable[Partition] = ()) -> Sign | None:
    """What tells that `target` works again; `owned` are the partitions of a consuming worker.

    None for what does no work of its own, such as topics, and for role dlq: it works only after a
    failure, so waiting for its next effect would measure how seldom anything fails.
    """
    role = role_of(target) or target
    if role == "web":
        return Sign(_ACCEPTED)
    if role in ("relay", "broker", "kafka"):
        return Sign(_PUBLISHED)
    if target.startswith("gateway"):
        return Sign(f"{_INBOX} and consumer = 'payment' and status = %s", (DONE,))
    if role == "postgres":
        return Sign(_INBOX)
    if role not in ROLES or role == "dlq":
        return None
    sql = f"{_INBOX} and consumer = %s"
    values: list[object] = [role]
    places = sorted(owned)
    if places:
        sql += " and (topic, partition) in (select * from unnest(%s::text[], %s::int[]))"
        values += [[topic for topic, _ in places], [number for _, number in places]]
    return Sign(sql, tuple(values))


def wait(world: World, sign: Sign, since_s: float, limit_s: float) -> float | None:
    """Seconds from `since_s` (Unix) to the first effect; None when none came within `limit_s`.

    A database that is away is asked again.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            rows: list[tuple[datetime | None, ...]] = world.sql(sign.sql, since_s, *sign.values)
        except psycopg2.Error:
            rows = []
        if rows and rows[0][0] is not None:
            return max(0.001, rows[0][0].timestamp() - since_s)
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_S)
