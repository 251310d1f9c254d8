"""The database facade against a real PostgreSQL: every wait can be cancelled, cut or refused."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors
import pytest
from pydantic import SecretStr

from app.db.engine import Database, Transaction, classify, statement
from app.errors import DatabaseOutage, TransientDatabase
from chaos.lab.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

CLEAR = statement("truncate engine_test")
CREATE = statement("create table if not exists engine_test (id int primary key, note text)")
INSERT = statement("insert into engine_test (id, note) values (:id, :note)")
UPDATE = statement("update engine_test set note = :note where id = :id")
COUNT = statement("select count(*) from engine_test")
SLEEP = statement("select pg_sleep(:seconds)")
PID = statement("select pg_backend_pid()")
BACKENDS = statement("select count(*) from pg_stat_activity where pid = any(:pids::int[])")
TERMINATE = statement("select pg_terminate_backend(:pid)")


@pytest.fixture(scope="module")
def server(servers_dir: Path) -> Iterator[Postgres]:
    """A server of this module's own: the tests stop and kill it."""
    postgres = Postgres(servers_dir / "engine-postgres", fsync=False)
    postgres.start()
    yield postgres
    postgres.kill()


def settings(server: Postgres, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "postgres_dsn": SecretStr(server.dsn),
        "db_connect_timeout_s": 2,
        "db_statement_timeout_s": 1.5,
        "db_lock_timeout_s": 0.5,
        "db_pool_max": 2,
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.fixture
async def db(server: Postgres) -> AsyncIterator[Database]:
    database = await Database.open(settings(server), application_name="engine-test")
    await database.wait_ready(20)
    await database.execute(CREATE)
    await database.execute(CLEAR)
    yield database
    await database.close()


async def count(db: Database) -> int:
    rows = await db.fetch(COUNT)
    return int(rows[0][0])


async def until(condition: Any, timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_block_commits_and_an_error_rolls_back(db: Database) -> None:
    """A transaction's block commits at its end and leaves nothing behind an exception."""
    async with db.transaction() as tx:
        assert await tx.execute(INSERT, id=1, note="kept") == 1
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.execute(INSERT, id=2, note="gone")
            raise ZeroDivisionError
    assert await count(db) == 1


async def test_what_is_to_follow_a_commit_follows_nothing_else(db: Database) -> None:
    """Calls are made in order after the commit, before the block's caller goes on; a rollback and a
    refused commit make none."""
    calls: list[int] = []
    async with db.transaction() as tx:
        tx.after_commit(lambda: calls.append(1))
        tx.after_commit(lambda: calls.append(2))
        await tx.execute(INSERT, commit=True, id=1, note="kept")
        assert calls == []
    assert calls == [1, 2]
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            tx.after_commit(lambda: calls.append(3))
            await tx.execute(INSERT, id=2, note="gone")
            raise ZeroDivisionError
    with pytest.raises(psycopg2.errors.UniqueViolation):
        async with db.transaction() as tx:
            tx.after_commit(lambda: calls.append(4))
            tx.later(INSERT, id=1, note="there already")
    assert calls == [1, 2]


async def test_the_pool_says_what_its_connections_do(db: Database) -> None:
    """Busy, idle and unopened are together db_pool_max, also after an error and a cancellation."""
    assert db.pool == (0, 1, 1)
    async with db.transaction() as tx:
        await tx.fetch(COUNT)
        assert db.pool == (1, 0, 1)
        assert await db.fetch(COUNT)
        assert db.pool == (1, 1, 0)
    assert db.pool == (0, 2, 0)
    slow = asyncio.create_task(db.fetch(SLEEP, seconds=1))
    await until(is_busy(db))
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert db.pool == (0, 1, 1), "the cancelled one was thrown away"


def is_busy(db: Database) -> Any:
    async def look() -> bool:
        return db.pool.busy == 1

    return look


async def test_commit_travels_with_the_last_statement(db: Database) -> None:
    """`commit=True` ends the transaction: durable before the block ends, nothing may follow."""
    async with db.transaction() as tx:
        await tx.execute(INSERT, id=1, note="a")
        assert await tx.execute(INSERT, commit=True, id=2, note="b") == -1
        assert await count(db) == 2
        with pytest.raises(RuntimeError):
            await tx.fetch(COUNT)
    async with db.transaction() as tx:
        assert await tx.execute(INSERT, commit=True, id=3, note="c") == 1
        assert await count(db) == 3


async def test_later_statements_keep_their_order_and_fail_as_one(db: Database) -> None:
    """Queued statements run in order before the next one; an error in one undoes them all."""
    async with db.transaction() as tx:
        tx.later(INSERT, id=1, note="a")
        tx.later(UPDATE, id=1, note="b")
        assert await tx.fetch(COUNT) == [(1,)]
    with pytest.raises(psycopg2.errors.UniqueViolation):
        async with db.transaction() as tx:
            tx.later(INSERT, id=2, note="a")
            tx.later(INSERT, id=1, note="twice")
    assert await count(db) == 1


async def test_swallowed_error_cannot_commit(db: Database) -> None:
    """A block that swallows a failed statement is told so instead of committing nothing."""
    with pytest.raises(RuntimeError, match="swallowed"):
        async with db.transaction() as tx:
            await tx.execute(INSERT, id=1, note="a")
            with pytest.raises(psycopg2.errors.UniqueViolation):
                await tx.execute(INSERT, id=1, note="again")
            with pytest.raises(RuntimeError):
                await tx.execute(INSERT, id=2, note="b")
    assert await count(db) == 0


async def test_statement_timeout_is_transient_and_no_cancellation(db: Database) -> None:
    """The server's statement timeout raises TransientDatabase and leaves the pool usable."""
    with pytest.raises(TransientDatabase) as caught:
        async with db.transaction() as tx:
            await tx.execute(INSERT, id=1, note="a")
            await tx.fetch(SLEEP, seconds=5)
    assert classify(caught.value) is TransientDatabase
    assert await count(db) == 0


async def test_lock_timeout_is_transient(db: Database) -> None:
    """Waiting longer than the lock timeout for a row raises TransientDatabase."""
    await db.execute(INSERT, id=1, note="a")
    async with db.transaction() as holder:
        await holder.execute(UPDATE, id=1, note="held")
        with pytest.raises(TransientDatabase):
            await db.execute(UPDATE, id=1, note="waits")


async def test_deadlock_is_transient_for_exactly_one(server: Postgres) -> None:
    """Of two transactions that wait for each other one fails as transient, the other commits."""
    patient = settings(server, db_lock_timeout_s=5, db_statement_timeout_s=5)
    db = await Database.open(patient, application_name="deadlock")
    await db.execute(CREATE)
    await db.execute(CLEAR)
    await db.execute(INSERT, id=1, note="a")
    await db.execute(INSERT, id=2, note="a")
    both = asyncio.Barrier(2)

    async def swap(first: int, second: int) -> None:
        async with db.transaction() as tx:
            await tx.execute(UPDATE, id=first, note="x")
            await both.wait()
            await tx.execute(UPDATE, id=second, note="x")

    outcomes = await asyncio.gather(swap(1, 2), swap(2, 1), return_exceptions=True)
    assert sorted(type(outcome) for outcome in outcomes if outcome) == [TransientDatabase]
    await db.close()


async def test_idle_transaction_is_ended_by_the_server(db: Database) -> None:
    """A transaction left idle is ended by the server, so that a stopped worker holds no locks."""
    pids: list[int] = []

    async def ended() -> bool:
        return await db.fetch(BACKENDS, pids=pids) == [(0,)]

    with pytest.raises((TransientDatabase, DatabaseOutage)):
        async with db.transaction() as tx:
            pids.append((await tx.fetch(PID))[0][0])
            await until(ended)
            await tx.execute(INSERT, id=1, note="late")
    assert await count(db) == 0


@pytest.mark.parametrize("step", ["first", "second", "commit", "between"])
async def test_cancel_at_each_await_drops_the_connection(db: Database, step: str) -> None:
    """Cancelled at any wait, the transaction leaves no lock, no session and a working pool."""
    await db.execute(INSERT, id=1, note="a")
    pid: list[int] = []
    reached = asyncio.Event()

    async def work(tx: Transaction) -> None:
        pid.append((await tx.fetch(PID))[0][0])
        reached.set()
        if step == "between":
            await asyncio.Event().wait()
        if step == "second":
            await tx.execute(UPDATE, id=1, note="b")
            await tx.fetch(SLEEP, seconds=1)
        if step == "commit":
            tx.later(UPDATE, id=1, note="b")
            tx.later(SLEEP, seconds=1)
            await tx.commit()

    async def whole() -> None:
        async with db.transaction() as tx:
            if step == "first":
                reached.set()
                await tx.fetch(SLEEP, seconds=1)
            await work(tx)

    task = asyncio.create_task(whole())
    await reached.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def session_gone() -> bool:
        return await db.fetch(BACKENDS, pids=pid) == [(0,)]

    await until(session_gone)
    assert await db.execute(UPDATE, id=1, note="after") == 1


async def test_cancel_while_waiting_for_a_connection_keeps_the_slots(server: Postgres) -> None:
    """Cancelling tasks that wait for a free connection never loses a slot of the pool."""
    db = await Database.open(settings(server, db_pool_max=1), application_name="slots")
    async with db.transaction() as tx:
        await tx.fetch(PID)
        waiting = [asyncio.create_task(db.fetch(PID)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert await db.fetch(COUNT)
    await db.close()


async def test_no_free_connection_is_transient(server: Postgres) -> None:
    """A pool that stays busy past the limit raises TransientDatabase."""
    tight = settings(server, db_pool_max=1, db_connect_timeout_s=2, db_statement_timeout_s=10)
    db = await Database.open(tight, application_name="busy")
    async with db.transaction() as tx:
        await tx.fetch(PID)
        with pytest.raises(TransientDatabase):
            await db.fetch(PID)
    await db.close()


async def test_terminated_backend_is_an_outage_and_heals(db: Database) -> None:
    """pg_terminate_backend in a transaction raises DatabaseOutage; the next one works."""
    with pytest.raises(DatabaseOutage):
        async with db.transaction() as tx:
            pid = (await tx.fetch(PID))[0][0]
            await db.fetch(TERMINATE, pid=pid)
            await tx.execute(INSERT, id=1, note="a")
    assert await count(db) == 0


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
async def test_server_restart_is_an_outage_until_it_is_back(
    db: Database, server: Postgres, mode: str
) -> None:
    """While the server is away everything is DatabaseOutage; afterwards the same facade works."""
    await db.execute(INSERT, id=1, note="before")
    with pytest.raises(DatabaseOutage):
        async with db.transaction() as tx:
            await tx.execute(INSERT, id=2, note="lost")
            server.kill() if mode == "kill" else server.stop(mode)
            await tx.execute(INSERT, id=3, note="lost")
    with pytest.raises(DatabaseOutage):
        await db.fetch(COUNT)
    with pytest.raises(DatabaseOutage):
        await db.wait_ready(0.3)
    server.start()
    await db.wait_ready(20)
    assert await count(db) == 1


async def test_idle_connection_is_dropped_when_the_server_goes(
    db: Database, server: Postgres
) -> None:
    """A pooled connection that died while idle is never handed out again."""
    server.stop("immediate")
    server.start()
    await db.wait_ready(20)
    assert await count(db) == 0


async def test_silent_server_is_an_outage(db: Database) -> None:
    """A server that accepts and never answers is given up after the client's own limit."""
    with pytest.raises(DatabaseOutage):
        async with db.transaction() as tx:
            pid = (await tx.fetch(PID))[0][0]
            os.kill(pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(10):
                    await tx.fetch(COUNT)
            finally:
                os.kill(pid, signal.SIGCONT)
    assert await count(db) == 0


async def test_values_arrive_as_documented(db: Database) -> None:
    """uuid arrives as text, bytea as bytes, times in UTC, arrays of bytes and uuids can be sent."""
    order = "6f1f9a52-7d3a-4b3e-9a3f-1f8d7d6c5b4a"
    rows = await db.fetch(
        statement("select * from unnest(:ids::uuid[], :blobs::bytea[]), now(), abs(7 % 4)"),
        ids=[order],
        blobs=[b"\x00\\'%s"],
    )
    assert rows[0][:2] == (order, b"\x00\\'%s")
    assert rows[0][2].utcoffset().total_seconds() == 0
    assert rows[0][3] == 3


async def test_wrong_parameters_are_a_programming_error(db: Database) -> None:
    """A missing or unknown parameter name is refused before anything is sent."""
    with pytest.raises(TypeError):
        await db.fetch(SLEEP)
    with pytest.raises(TypeError):
        await db.fetch(COUNT, id=1)
