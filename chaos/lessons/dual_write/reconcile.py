"""The difference between database and topic, order by order. Comparing counts would miss one lost
event beside one phantom."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

import psycopg2

from chaos import records
from chaos.lab.process import LabError
from chaos.workload.target import Target

TOPIC = "order.created"


class Books(NamedTuple):
    """The ids of all orders in the database, and of all events in the topic, at one time."""

    stored: frozenset[str]
    published: frozenset[str]

    @property
    def lost(self) -> list[str]:
        """Orders that are stored and whose event is not in the topic."""
        return sorted(self.stored - self.published)

    @property
    def phantom(self) -> list[str]:
        """Orders that are not stored and whose event is in the topic."""
        return sorted(self.published - self.stored)

    def among(self, orders: Iterable[str]) -> Books:
        """The same books for some orders only."""
        chosen = frozenset(orders)
        return Books(self.stored & chosen, self.published & chosen)

    def without(self, earlier: Books) -> Books:
        """What came since `earlier`."""
        return Books(self.stored - earlier.stored, self.published - earlier.published)


def read_books(target: Target) -> Books:
    """Read the whole topic from the broker, then the database. Raises LabError.

    Call it when no orders come in and the outbox is empty: then no difference is one of time.
    """
    published = {
        (record.key or b"").decode("utf-8", "replace")
        for record in records.read(target.bootstrap, [TOPIC])
    }
    return Books(frozenset(ids(target, "select order_id::text from orders.orders")),
                 frozenset(published))  # fmt: skip


def ids(target: Target, sql: str) -> list[str]:
    """The first column of a select. Raises LabError."""
    try:
        with closing(psycopg2.connect(target.dsn)) as connection:
            connection.set_session(readonly=True, autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return [str(row[0]) for row in cursor.fetchall()]
    except psycopg2.Error as error:
        raise LabError(" ".join(str(error).split())) from None
