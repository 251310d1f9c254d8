"""What a GameDay sees while it goes on: the client's side of the load, and PostgreSQL's books.

PostgreSQL is asked by a thread of its own, so that one that is frozen on purpose freezes nobody
else: what is older than STALE_S counts as not known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

import psycopg2

from app.db.census import STUCK
from chaos.gameday.guard import Reading
from chaos.workload.ledger import Line
from chaos.workload.traffic import Traffic

LOOK_S = 0.5
STALE_S = 3.0
CONNECT_S = 3
APPLICATION = "gameday"
_BOOKS = f"""
select count(*), (select count(*) from ops.outbox), count(*) filter (where {STUCK})
  from orders.saga where not terminal and state <> 'PARKED'
"""  # noqa: S608 (constants)


class Books(NamedTuple):
    """Sagas under way, outbox rows that wait for the relay, and sagas long past their deadline."""

    running: int
    outbox: int
    stuck: int


class Client(NamedTuple):
    """The client's side of a while: requests that ended, how many were accepted, how long."""

    ended: int
    accepted: int
    p50_ms: float | None
    p95_ms: float | None


class Meter:
    """Measures one lab while `traffic` flows; `stop` it."""

    def __init__(self, dsn: str, traffic: Traffic) -> None:
        self._dsn, self._traffic = dsn, traffic
        self._books: tuple[float, Books] | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gameday-books", daemon=True)

    def start(self) -> None:
        """Begin to ask PostgreSQL."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a question to a frozen server is left alone."""
        self._enough.set()

    @property
    def books(self) -> Books | None:
        """What PostgreSQL said lately; None when it did not."""
        found = self._books
        return found[1] if found and time.monotonic() - found[0] < STALE_S else None

    def client(self, window_s: float) -> Client:
        """What the client saw during the last `window_s`."""
        return client_of(self._traffic.creates_since(time.time() - window_s))

    def reading(self, window_s: float) -> Reading:
        """Everything that the guard and the steady state look at."""
        seen, books = self.client(window_s), self.books
        return Reading(
            error_ratio=error_ratio(seen, self._traffic.sent),
            accept_p95_ms=seen.p95_ms,
            backlog=books.running + books.outbox if books else None,
            stuck=books.stuck if books else None,
        )

    def _run(self) -> None:
        while not self._enough.is_set():
            try:
                self._ask()
            except psycopg2.Error:
                self._enough.wait(LOOK_S)

    def _ask(self) -> None:
        """Ask again and again on one connection, until it is lost."""
        with closing(
            psycopg2.connect(self._dsn, connect_timeout=CONNECT_S, application_name=APPLICATION)
        ) as connection:
            connection.set_session(readonly=True, autocommit=True)
            while not self._enough.wait(LOOK_S):
                with connection.cursor() as cursor:
                    cursor.execute(_BOOKS)
                    self._books = (time.monotonic(), Books(*cursor.fetchone()))


def client_of(lines: Sequence[Line]) -> Client:
    """The figures of these first requests."""
    took = sorted((line.returned_s - line.intended_s) * 1000 for line in lines if line.status)
    accepted = sum(line.outcome == "ok" for line in lines)
    return Client(len(lines), accepted, quantile(took, 0.5), quantile(took, 0.95))


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """A quantile by nearest rank of ascending values; None without any."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def error_ratio(seen: Client, sent: int) -> float | None:
    """The share that was not accepted; requests were sent and none came back: all of them."""
    if seen.ended:
        return 1 - seen.accepted / seen.ended
    return 1.0 if sent else None
