"""One aiopg connection with the timeouts, types and cancellation the facade promises.

Guarantees: a wait that is cancelled or times out closes the connection at once; a server-side
statement timeout is an error and never a task cancellation. Not safe for two tasks at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import aiopg.connection
import psycopg2
import psycopg2.extensions
import psycopg2.extras

from app.db.faults import classify
from app.errors import DatabaseOutage

if TYPE_CHECKING:
    import weakref
    from collections.abc import Mapping

    from app.db.statements import Statement
    from app.settings import Settings

# A round trip may last the server's own statement timeout plus this before we give up on it.
_REPLY_MARGIN_S = 2.0
_KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

psycopg2.extensions.register_adapter(uuid.UUID, psycopg2.extras.UUID_adapter)


def _bytea(value: str | None, cursor: Any) -> bytes | None:
    decoded = psycopg2.BINARY(value, cursor)
    return None if decoded is None else bytes(decoded)


_BYTES = psycopg2.extensions.new_type(psycopg2.BINARY.values, "BYTES", _bytea)


class Limits(NamedTuple):
    """Where to connect and how long to wait, all in seconds."""

    dsn: str
    application_name: str
    connect_timeout_s: float
    statement_timeout_s: float
    lock_timeout_s: float

    @classmethod
    def from_settings(cls, settings: Settings, application_name: str) -> Limits:
        """Take the limits from the `db_*` settings."""
        return cls(
            dsn=settings.postgres_dsn.get_secret_value(),
            application_name=application_name,
            connect_timeout_s=settings.db_connect_timeout_s,
            statement_timeout_s=settings.db_statement_timeout_s,
            lock_timeout_s=settings.db_lock_timeout_s,
        )

    def server_options(self) -> str:
        """Session settings sent with the start-up packet, so that they cost no round trip."""
        statement_ms = round(self.statement_timeout_s * 1000)
        options = {
            "statement_timeout": statement_ms,
            "lock_timeout": round(self.lock_timeout_s * 1000),
            "idle_in_transaction_session_timeout": statement_ms,
            "client_connection_check_interval": 500,
            "timezone": "UTC",
        }
        return " ".join(f"-c {name}={value}" for name, value in options.items())


class _Aiopg(aiopg.connection.Connection):  # type: ignore[misc]
    """aiopg 1.4.0's connection with three methods replaced.

    `_poll`: theirs turns a server-side statement timeout into CancelledError, and its wait_for
    loses a cancellation that meets a reply (CPython 3.11). `_close`: theirs forgets to forget the
    descriptor, so a second close would unregister somebody else's. `_ready`: theirs leaves a lost
    idle connection registered, and a refused one its writer, so that uvloop fails on the next
    connection with that descriptor; it also fails in select() above descriptor 1023.
    Red without them: tests/integration/test_db_engine.py, test_db_on_uvloop.py.
    """

    @staticmethod
    def _ready(weak_self: weakref.ref[Any]) -> None:
        session = weak_self()
        writing_to = session._fileno if session is not None and session._writing else None
        # ValueError: select() above descriptor 1023, reached only for a connection that is lost.
        with contextlib.suppress(ValueError):
            aiopg.connection.Connection._ready(weak_self)
        if session is None:
            return
        if writing_to is not None and session._fileno is None:
            with contextlib.suppress(OSError):
                session._loop.remove_writer(writing_to)
        if session.closed:
            session._close()

    def _close(self) -> None:
        super()._close()
        self._fileno = None

    async def _poll(self, waiter: asyncio.Future[None], timeout: float) -> None:
        self._ready(self._weakref)
        timer = self._loop.call_later(timeout, _expire, waiter)
        try:
            await waiter
        except (asyncio.CancelledError, TimeoutError):
            self._close()
            raise
        finally:
            timer.cancel()
            self._waiter = None


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("PostgreSQL did not answer in time"))


class Connection:
    """One session: run a string of statements, look at its last result, or throw it away."""

    __slots__ = ("_aiopg", "_cursor", "_limits", "_raw")

    def __init__(self, session: _Aiopg, limits: Limits) -> None:
        self._aiopg = session
        self._raw = session.raw.cursor()
        psycopg2.extensions.register_type(_BYTES, session.raw)
        self._cursor = aiopg.connection.Cursor(
            session, self._raw, limits.statement_timeout_s + _REPLY_MARGIN_S, False
        )
        self._limits = limits

    def mogrify(self, statement: Statement, params: Mapping[str, Any]) -> bytes:
        """Return the SQL with its parameters quoted in."""
        if self._aiopg.closed:
            raise DatabaseOutage("the connection to PostgreSQL is lost")
        sql: bytes = self._raw.mogrify(statement.sql, statement.bind(params))
        return sql

    async def run(self, sql: bytes) -> None:
        """Send `sql` (one or more statements) and wait for the whole answer: one round trip.

        Raises TransientDatabase or DatabaseOutage with the driver's error as cause, else the
        psycopg2 error. A connection in doubt is closed before this returns.
        """
        try:
            await self._cursor.execute(sql)
        except (psycopg2.Error, TimeoutError) as exc:
            kind = classify(exc)
            if kind is DatabaseOutage or self._aiopg.closed:
                self.discard()
            if kind is None:
                raise
            raise kind(_first_line(exc)) from exc
        except BaseException:
            self.discard()
            raise

    def rows(self) -> list[tuple[Any, ...]]:
        """Rows of the last statement of the last round trip."""
        rows: list[tuple[Any, ...]] = self._raw.fetchall()
        return rows

    def row_count(self) -> int:
        """Rows touched by the last statement of the last round trip."""
        count: int = self._raw.rowcount
        return count

    def status_message(self) -> str:
        """The server's tag of the last statement, e.g. COMMIT."""
        message: str = self._raw.statusmessage
        return message

    def transaction_status(self) -> int:
        """libpq's transaction status; UNKNOWN once the connection is closed."""
        status: int = psycopg2.extensions.TRANSACTION_STATUS_UNKNOWN
        if not self._aiopg.closed:
            status = self._aiopg.raw.get_transaction_status()
        return status

    def discard(self) -> None:
        """Close the connection; the server rolls back what was open. May be called twice."""
        self._aiopg.close()


async def connect(limits: Limits) -> Connection:
    """Open one session within `connect_timeout_s`; DatabaseOutage with the cause if it fails."""
    try:
        session = _Aiopg(
            limits.dsn,
            limits.connect_timeout_s,
            enable_json=True,
            enable_hstore=False,
            enable_uuid=False,
            application_name=limits.application_name,
            options=limits.server_options(),
            **_KEEPALIVE,
        )
        await session
    except (psycopg2.Error, TimeoutError) as exc:
        raise DatabaseOutage(_first_line(exc)) from exc
    return Connection(session, limits)


def _first_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
