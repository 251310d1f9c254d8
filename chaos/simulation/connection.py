"""A connection to the database in memory: what `app.db.connection.Connection` promises.

The facade above it (`app.db.engine`: queueing, guess, BEGIN and COMMIT in the round trip of a
statement) is the product's own. Each round trip travels there and back in virtual time, so a
process can die before the server hears, and after the server acted but before the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
    TRANSACTION_STATUS_INTRANS,
    TRANSACTION_STATUS_UNKNOWN,
)

from app.errors import DatabaseOutage, TransientDatabase
from chaos.simulation.process import WorkerEnded, current
from chaos.simulation.statements import run_statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.db.connection import Limits
    from app.db.statements import Statement
    from chaos.simulation.database import Tx
    from chaos.simulation.world import World

_SEPARATOR = b";\n"


class MemoryConnection:
    """One session of one process; statements are known by number, never as text."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._server = world.database
        self._process = current()
        self._known: dict[bytes, tuple[Statement, Mapping[str, Any]]] = {}
        self._number = 0
        self._tx: Tx | None = None
        self._explicit = False
        self._failed = False
        self._closed = False
        self._answer: list[tuple[Any, ...]] | int = 0
        self._status = ""

    def mogrify(self, statement: Statement, params: Mapping[str, Any]) -> bytes:
        """Keep statement and parameters; return the text by which `run` finds them."""
        if self._closed:
            raise DatabaseOutage("the connection to PostgreSQL is lost")
        if params.keys() != statement.names:
            raise TypeError(f"parameters {sorted(params)} do not match: {statement.sql}")
        self._number += 1
        token = b"#%d" % self._number
        self._known[token] = (statement, params)
        return token

    async def run(self, sql: bytes) -> None:
        """One round trip; errors as the real connection raises them."""
        self._alive()
        world = self._world
        await world.travel("database")
        try:
            self._reachable()
            await self._run_all(sql.split(_SEPARATOR))
        except DatabaseOutage:
            self.discard()
            raise
        except Exception:
            if self._tx is not None:
                self._tx.abort()
                self._failed = self._explicit
            if not self._explicit:
                self._tx = None
            raise
        except BaseException:
            self.discard()
            raise
        await world.travel("database")
        if world.faults.loses_answer():
            self.discard()
            raise DatabaseOutage("the connection broke before the answer came")

    async def _run_all(self, commands: list[bytes]) -> None:
        for command in commands:
            match command:
                case b"BEGIN":
                    self._tx = self._server.begin(self._process)
                    self._explicit = True
                case b"COMMIT":
                    self._commit()
                case b"ROLLBACK":
                    self._roll_back()
                case _:
                    if self._tx is None:
                        self._tx = self._server.begin(self._process)
                    await self._execute(self._tx, command)
        if not self._explicit:
            self._commit()

    async def _execute(self, tx: Tx, command: bytes) -> None:
        tx.check()
        statement, params = self._known.pop(command)
        if self._world.faults.contends():
            raise TransientDatabase("deadlock detected")
        self._answer = await run_statement(tx, statement, params)
        self._alive()
        tx.check()

    def _commit(self) -> None:
        if self._tx is not None:
            self._tx.commit()
        self._status, self._tx, self._explicit = "COMMIT", None, False
        self._known.clear()

    def _roll_back(self) -> None:
        if self._tx is not None:
            self._tx.abort()
        self._status, self._tx = "ROLLBACK", None
        self._failed = self._explicit = False
        self._known.clear()

    def _alive(self) -> None:
        if not self._process.alive:
            self.discard()
            raise WorkerEnded

    def _reachable(self) -> None:
        self._alive()
        ended = self._tx is not None and self._tx.over and not self._failed
        if self._closed or self._server.down or ended:
            raise DatabaseOutage("server closed the connection unexpectedly")

    def rows(self) -> list[tuple[Any, ...]]:
        """Rows of the last statement."""
        return self._answer if isinstance(self._answer, list) else []

    def row_count(self) -> int:
        """Rows touched by the last statement."""
        return len(self._answer) if isinstance(self._answer, list) else self._answer

    def status_message(self) -> str:
        """The server's tag of the last COMMIT or ROLLBACK."""
        return self._status

    def transaction_status(self) -> int:
        """As libpq tells it."""
        status: int = TRANSACTION_STATUS_IDLE
        if self._closed or self._server.down:
            status = TRANSACTION_STATUS_UNKNOWN
        elif self._failed:
            status = TRANSACTION_STATUS_INERROR
        elif self._tx is not None:
            status = TRANSACTION_STATUS_INTRANS
        return status

    def discard(self) -> None:
        """Close; the server rolls back what was open."""
        self._closed = True
        if self._tx is not None:
            self._tx.abort()
            self._tx = None


async def connect(world: World, _limits: Limits) -> MemoryConnection:
    """Open one session; DatabaseOutage while the server is down."""
    if world.database.down:
        await world.travel("database")
        raise DatabaseOutage("could not connect to server: Connection refused")
    return MemoryConnection(world)
