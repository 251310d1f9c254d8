"""The one way to PostgreSQL: transactions over a small pool of aiopg connections.

Guarantees: few round trips (BEGIN travels with the first statement, COMMIT with the last), every
wait is bounded, a connection in doubt is never used again, errors are classified once, here.
Does not guarantee that an unanswered COMMIT did not happen: DatabaseOutage leaves that open.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_INERROR, TRANSACTION_STATUS_INTRANS

from app.db.connection import Connection, Limits
from app.db.faults import classify
from app.db.pool import Pool, Usage
from app.db.statements import Statement, statement
from app.errors import DatabaseOutage, RowsMissed, TransientDatabase
from app.observability import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from app.settings import Settings
    from app.taps import Taps

__all__ = [
    "Database",
    "Statement",
    "StatementError",
    "Transaction",
    "classify",
    "statement",
]

StatementError = psycopg2.Error
"""What a statement raises for a reason of its own: a constraint, a wrong value."""

_READY_POLL_S = 0.1


class Transaction:
    """One transaction on one connection, for one task; made by `Database.transaction`.

    Nothing is sent before the first statement. After an error every further statement is refused:
    leave the block. While `guessing`, rows that a counted write guards need not be read first: the
    transaction is made again, not guessing, when that write raises RowsMissed.
    """

    __slots__ = (
        "_afterwards",
        "_begun",
        "_connection",
        "_failed",
        "_finished",
        "_observed",
        "_queued",
        "_taps",
        "guessing",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        guessing: bool = False,
        taps: Taps | None = None,
        observed: bool = True,
    ) -> None:
        self._connection = connection
        self._observed = observed
        self._taps = taps
        self.guessing = guessing
        self._queued: list[bytes] = []
        self._afterwards: list[Callable[[], None]] = []
        self._begun = False
        self._failed = False
        self._finished = False

    async def fetch(
        self, statement: Statement, /, *, commit: bool = False, **params: Any
    ) -> list[tuple[Any, ...]]:
        """Run `statement` and return its rows (tuples; uuid as text, bytea as bytes, UTC times).

        With `commit` the transaction ends here: in the same round trip when this is its first
        one, else in a second. Raises TransientDatabase, DatabaseOutage or the psycopg2 error.
        """
        sql = self._connection.mogrify(statement, params)
        if commit and not self._begun:
            await self._send([sql], begin=False)
            self._finished = True
            return self._connection.rows()
        await self._send([sql], begin=True)
        rows = self._connection.rows()
        if commit:
            await self.commit()
        return rows

    async def execute(self, statement: Statement, /, *, commit: bool = False, **params: Any) -> int:
        """Run `statement`; return how many rows it touched.

        With `commit` the COMMIT travels in the same round trip and ends the transaction; then
        the count is known (else -1) only when nothing had been sent before. Errors as `fetch`.
        """
        sql = self._connection.mogrify(statement, params)
        if not commit:
            await self._send([sql], begin=True)
            return self._connection.row_count()
        if not self._begun:
            await self._send([sql], begin=False)
            self._finished = True
            return self._connection.row_count()
        await self._send([sql, b"COMMIT"], begin=False)
        self._committed()
        return -1

    def later(self, statement: Statement, /, **params: Any) -> None:
        """Queue `statement`: it travels, in order, with the next round trip or the COMMIT.

        For writes whose rows and count nobody needs. Its error is raised by that round trip.
        """
        self._check_open()
        self._queued.append(self._connection.mogrify(statement, params))

    def after_commit(self, call: Callable[[], None]) -> None:
        """Have `call` made once the transaction is known to have happened, and not otherwise.

        For counting: what is rolled back and done again would be counted twice.
        """
        self._afterwards.append(call)

    def happened(self) -> None:
        """Make the calls of `after_commit`."""
        for call in self._afterwards:
            call()

    async def commit(self) -> None:
        """Send what is queued and commit, in one round trip; the transaction is then over.

        DatabaseOutage or cancellation while it is under way leaves open whether it happened.
        """
        if not self._begun:
            if self._queued:
                await self._send([], begin=False)
            self._finished = True
            return
        await self._send([b"COMMIT"], begin=False)
        self._committed()

    async def _send(self, statements: list[bytes], *, begin: bool) -> None:
        self._check_open()
        batch = [*self._queued, *statements]
        self._queued.clear()
        if begin and not self._begun:
            batch.insert(0, b"BEGIN")
            self._begun = True
        self._failed = True
        began = perf_counter()
        try:
            if self._taps is not None and self._taps.statements:
                await self._taps.on_statement()
            await self._connection.run(b";\n".join(batch))
        finally:
            if self._observed:
                metrics.DB_ROUND_TRIP.child().observe(perf_counter() - began)
        self._failed = False

    def _committed(self) -> None:
        self._finished = True
        if self._connection.status_message() != "COMMIT":
            self._failed = True
            raise TransientDatabase("COMMIT was answered by a rollback")

    def _check_open(self) -> None:
        if self._finished:
            raise RuntimeError("the transaction is over")
        if self._failed:
            raise RuntimeError("the transaction has failed; leave its block")

    async def __aenter__(self) -> Transaction:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None and not self._finished:
            if self._failed:
                await self._rollback()
                raise RuntimeError("the transaction has failed and its error was swallowed")
            try:
                await self.commit()
            except Exception:
                await self._rollback()
                raise
        elif isinstance(exc, Exception):
            await self._rollback()
        elif exc is not None:
            self._connection.discard()

    async def _rollback(self) -> None:
        """Roll back without hiding the error under way: in doubt the connection is dropped."""
        if self._connection.transaction_status() in (
            TRANSACTION_STATUS_INTRANS,
            TRANSACTION_STATUS_INERROR,
        ):
            try:
                await self._connection.run(b"ROLLBACK")
            except (psycopg2.Error, TransientDatabase, DatabaseOutage):
                self._connection.discard()


class Database:
    """Transactions over a bounded pool of connections; open one per process and event loop."""

    def __init__(
        self,
        limits: Limits,
        connections_max: int,
        taps: Taps | None = None,
        *,
        observed: bool = True,
    ) -> None:
        self._pool = Pool(limits, connections_max, observed=observed)
        self._taps = taps
        self._observed = observed

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        application_name: str,
        taps: Taps | None = None,
        observed: bool = True,
    ) -> Database:
        """Return a facade configured from `settings`; connects lazily, so never fails on outage.

        `application_name` names the worker in pg_stat_activity. `taps` stand before each statement.
        One that is not `observed`, the laboratory's, is left out of the worker's metrics.
        """
        limits = Limits.from_settings(settings, application_name)
        return cls(limits, settings.db_pool_max, taps, observed=observed)

    async def close(self) -> None:
        """Close idle connections and refuse new transactions; busy ones close when returned."""
        self._pool.close()

    @property
    def pool(self) -> Usage:
        """What the connections do now."""
        return self._pool.usage

    async def wait_ready(self, timeout_s: float) -> None:
        """Return once a statement was answered; DatabaseOutage with the cause after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            try:
                await self.fetch(_PING)
            except (DatabaseOutage, TransientDatabase):
                if loop.time() >= deadline:
                    raise
            else:
                return
            await asyncio.sleep(_READY_POLL_S)

    @asynccontextmanager
    async def transaction(self, *, guessing: bool = False) -> AsyncIterator[Transaction]:
        """A read-committed transaction: commits at the end of the block, rolls back on an error.

        Waits at most `db_connect_timeout_s` for a free connection (else TransientDatabase) and
        as long again for a new one (else DatabaseOutage). A cancelled one drops its connection.
        """
        try:
            connection = await self._pool.acquire()
            try:
                async with Transaction(
                    connection, guessing=guessing, taps=self._taps, observed=self._observed
                ) as tx:
                    yield tx
            finally:
                self._pool.release(connection)
        except RowsMissed:
            raise  # a guess that was wrong, or another worker that was faster
        except (DatabaseOutage, TransientDatabase) as error:
            kind = "outage" if isinstance(error, DatabaseOutage) else "transient"
            if self._observed:
                metrics.DB_ERRORS.child(kind).inc()
            raise
        tx.happened()

    async def fetch(self, statement: Statement, /, **params: Any) -> list[tuple[Any, ...]]:
        """Run one statement as its own transaction, in one round trip; return its rows."""
        async with self.transaction() as tx:
            return await tx.fetch(statement, commit=True, **params)

    async def execute(self, statement: Statement, /, **params: Any) -> int:
        """Run one statement as its own transaction, in one round trip; return rows touched."""
        async with self.transaction() as tx:
            return await tx.execute(statement, commit=True, **params)


_PING = statement("select 1")
