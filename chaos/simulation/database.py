"""PostgreSQL in memory: rows with versions, row locks, read committed, and nothing else.

It promises what the statements of `app.db` rest on: a transaction's writes appear at once and only
at its commit; a row that another transaction has written or locked is waited for, and then seen as
that one left it; what was not there when a statement began is not seen by it. A statement that
fails ends its transaction. It does not promise deadlock detection: the lock timeout ends those.
`tests/simulation/test_contract_database.py` runs the same assertions on it and on PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from app.errors import DatabaseOutage, TransientDatabase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from chaos.simulation.loop import VirtualLoop
from chaos.simulation.process import Process

LOCK_TIMEOUT_S = 3.0

Key = Any
Row = Any


class Server:
    """All tables, all locks, all open transactions."""

    def __init__(self, loop: VirtualLoop, now: Callable[[], datetime]) -> None:
        self.loop = loop
        self.now = now
        self.down = False
        self.tables: defaultdict[str, dict[Key, Row]] = defaultdict(dict)
        self.open: set[Tx] = set()
        self.committed: Callable[[Tx], None] = lambda _: None
        self._locks: dict[tuple[str, Key], Tx] = {}
        self._waiting: dict[tuple[str, Key], list[asyncio.Future[None]]] = {}
        self._serial = 0

    def next_id(self) -> int:
        """Return the next value of the one sequence: taken at once, whatever becomes of it."""
        self._serial += 1
        return self._serial

    def begin(self, process: Process) -> Tx:
        """Open a transaction for a process."""
        tx = Tx(self, process)
        self.open.add(tx)
        return tx

    def stop(self) -> None:
        """Refuse everything from now on; open transactions are rolled back."""
        self.down = True
        for tx in list(self.open):
            tx.abort()

    def start(self) -> None:
        """Serve again; what was committed is there."""
        self.down = False

    def disconnect(self, process: Process) -> None:
        """The process is gone, or silent in a transaction for too long."""
        for tx in list(self.open):
            if tx.process is process:
                tx.abort()

    async def take(self, tx: Tx, item: tuple[str, Key]) -> None:
        """Wait for a row and lock it until `tx` ends; TransientDatabase after the timeout."""
        deadline = self.loop.time() + LOCK_TIMEOUT_S
        while (owner := self._locks.get(item)) is not tx:
            if owner is None:
                self._locks[item] = tx
                tx.held.append(item)
                return
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._waiting.setdefault(item, []).append(waiter)
            timer = self.loop.call_at(deadline, _wake, waiter)
            await waiter
            timer.cancel()
            tx.check()
            if self.loop.time() >= deadline:
                raise TransientDatabase("canceling statement due to lock timeout")

    def finish(self, tx: Tx) -> None:
        """Give the locks of an ended transaction free."""
        self.open.discard(tx)
        for item in tx.held:
            del self._locks[item]
            for waiter in self._waiting.pop(item, ()):
                _wake(waiter)
        tx.held.clear()


class Tx:
    """One transaction: its writes, its locks, and whether it is over."""

    def __init__(self, server: Server, process: Process) -> None:
        self.server = server
        self.process = process
        self.writes: dict[tuple[str, Key], Row | None] = {}
        self.held: list[tuple[str, Key]] = []
        self.over = False

    @property
    def now(self) -> datetime:
        """The server's time."""
        return self.server.now()

    def get(self, table: str, key: Key) -> Row | None:
        """Return a row as this transaction sees it now."""
        item = (table, key)
        if item in self.writes:
            return self.writes[item]
        return self.server.tables[table].get(key)

    def rows(self, table: str) -> Iterator[tuple[Key, Row]]:
        """All rows of a table as this transaction sees them now, in no order to rely on."""
        for key, row in self.server.tables[table].items():
            if (table, key) not in self.writes:
                yield key, row
        for (name, key), row in self.writes.items():
            if name == table and row is not None:
                yield key, row

    def put(self, table: str, key: Key, row: Row | None) -> None:
        """Write or (None) delete a row that is locked."""
        self.writes[table, key] = row

    async def lock(self, table: str, keys: Iterable[Key]) -> list[Key]:
        """Lock the rows that are there now, in the order given; return those still there then."""
        there = [key for key in keys if self.get(table, key) is not None]
        for key in there:
            await self.server.take(self, (table, key))
        return [key for key in there if self.get(table, key) is not None]

    async def insert(self, table: str, key: Key, row: Row) -> bool:
        """Insert a row, waiting for a transaction that does so too; False when it is there."""
        if self.server.tables[table].get(key) is None:
            await self.server.take(self, (table, key))
        if self.get(table, key) is not None:
            return False
        self.put(table, key, row)
        return True

    def check(self) -> None:
        """Raise DatabaseOutage when the server has ended this transaction."""
        if self.over:
            raise DatabaseOutage("server closed the connection unexpectedly")

    def commit(self) -> None:
        """Make all writes visible, at once."""
        self.check()
        self.server.committed(self)
        for (table, key), row in self.writes.items():
            if row is None:
                self.server.tables[table].pop(key, None)
            else:
                self.server.tables[table][key] = row
        self.over = True
        self.server.finish(self)

    def abort(self) -> None:
        """Forget all writes; may be called twice."""
        self.over = True
        self.server.finish(self)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
