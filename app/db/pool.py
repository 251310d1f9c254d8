"""The bounded pool of connections to PostgreSQL.

Guarantees: never more than `connections_max` are open or being opened, every wait for one is
bounded, and one that is not known to be at rest is closed instead of lent again. Connects when one
is asked for, never before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from time import perf_counter
from typing import NamedTuple
from weakref import WeakSet

from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from app.db.connection import Connection, Limits, connect
from app.errors import TransientDatabase
from app.observability import metrics


class Usage(NamedTuple):
    """Connections by what they do: in a transaction, open and free, not opened."""

    busy: int
    idle: int
    unopened: int


class Pool:
    """Lends connections of one process and event loop; one that is not `observed` is left out of
    its metrics."""

    def __init__(self, limits: Limits, connections_max: int, *, observed: bool) -> None:
        self._limits = limits
        self._connections_max = connections_max
        self._free_slots = asyncio.Semaphore(connections_max)
        self._idle: deque[Connection] = deque()
        self._closed = False
        self._busy = 0
        self._observed = observed
        if not observed:
            return
        _open.add(self)
        for state in Usage._fields:
            metrics.DB_POOL.child(state).set_function(partial(_connections, state))

    @property
    def usage(self) -> Usage:
        """What the connections do now."""
        idle = len(self._idle)
        return Usage(self._busy, idle, self._connections_max - self._busy - idle)

    def close(self) -> None:
        """Close idle connections and lend no more; busy ones close when they are given back."""
        self._closed = True
        _open.discard(self)
        while self._idle:
            self._idle.pop().discard()

    async def acquire(self) -> Connection:
        """Lend a connection until `release`: a free one, else a new one.

        Waits at most `db_connect_timeout_s` for its turn (else TransientDatabase) and as long again
        for a new connection (else DatabaseOutage).
        """
        if self._closed:
            raise RuntimeError("the database facade is closed")
        began = perf_counter()
        try:
            await self._take_slot()
            self._busy += 1
            try:
                return self._take_idle() or await connect(self._limits)
            except BaseException:
                self._busy -= 1
                self._free_slots.release()
                raise
        finally:
            if self._observed:
                metrics.DB_ACQUIRE.child().observe(perf_counter() - began)

    def release(self, connection: Connection) -> None:
        """Take back what `acquire` lent; one with a transaction still open, or lost, is closed."""
        if self._closed or connection.transaction_status() != TRANSACTION_STATUS_IDLE:
            connection.discard()
        else:
            self._idle.append(connection)
        self._busy -= 1
        self._free_slots.release()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.transaction_status() == TRANSACTION_STATUS_IDLE:
                return connection
            connection.discard()
        return None

    async def _take_slot(self) -> None:
        if not self._free_slots.locked():
            await self._free_slots.acquire()
            return
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                await self._free_slots.acquire()
        except TimeoutError:
            raise TransientDatabase("no free connection") from None


_open: WeakSet[Pool] = WeakSet()
"""This process's pools: one, or one per role of a monolith."""


def _connections(state: str) -> float:
    return float(sum(getattr(pool.usage, state) for pool in list(_open)))
