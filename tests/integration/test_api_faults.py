"""Facts about the API under overload, slow and absent databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from app.db.migrate import upgrade
from chaos.lab.postgres import Postgres
from tests.integration.api_client import AMOUNT, Client, api, count, place, problem, query, together
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

LOCK_WAITS = (
    "select waitstart::text from pg_locks"
    " where relation = 'orders.orders'::regclass and waitstart is not null"
)
"""When each writer that waits for the table began to; a new attempt waits anew."""


class Blocked:
    """Hold a lock on orders.orders, so that every writer waits, until `release`."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg2.connect(dsn)
        with self._connection.cursor() as cursor:
            cursor.execute("lock table orders.orders in access exclusive mode")

    def release(self) -> None:
        """Let the writers go on."""
        self._connection.rollback()
        self._connection.close()


async def queued(client: Client, rows: int) -> None:
    """Wait until `rows` orders wait in the queue and a writer is busy."""

    async def look() -> bool:
        text = await (await client.get("/metrics")).text()
        return f"symphony_api_queue_orders {rows}.0" in text

    await eventually(look, timeout_s=20, what=f"{rows} queued orders")


async def test_a_full_queue_is_refused_at_once_and_the_rest_is_stored(database: str) -> None:
    """One order in the writer, one in the queue: the third gets 503 with Retry-After."""
    changes = {"api_writers": 1, "api_batch_max": 1, "api_queue_max": 1}
    async with api(database, **changes, api_request_timeout_s=60) as client:
        lock = Blocked(database)
        first = asyncio.create_task(place(client))
        await eventually(lambda: _waits_for_lock(database), timeout_s=20, what="a blocked writer")
        second = asyncio.create_task(place(client))
        await queued(client, 1)
        answer = await client.post("/api/orders", json=AMOUNT)
        assert (await problem(answer, 503))["code"] == "overloaded"
        assert int(answer.headers["Retry-After"]) > 0
        lock.release()
        stored = {reply["orderId"] for reply in await together(first, second)}
    assert len(stored) == count(database, "orders.orders") == 2


async def test_a_request_past_its_deadline_is_a_503_and_leaves_the_queue(database: str) -> None:
    """Both requests are told in time; the queued one is never stored."""
    changes = {"api_writers": 1, "api_batch_max": 1, "api_request_timeout_s": 0.4}
    changes |= {"control_ack_wait_s": 0.2}
    async with api(database, **changes) as client:
        lock = Blocked(database)
        started = time.monotonic()
        answers = await together(*(client.post("/api/orders", json=AMOUNT) for _ in range(3)))
        assert time.monotonic() - started < 10
        for answer in answers:
            assert (await problem(answer, 503))["code"] == "timeout"
        lock.release()
        tries = 0

        async def accepted() -> bool:
            nonlocal tries
            tries += 1
            return await _accepted(client)

        await eventually(accepted, timeout_s=20, what="an accepted order")
    assert count(database, "orders.orders") <= 1 + tries, "the writer's own and what came later"


async def test_contention_is_retried_not_reported(database: str) -> None:
    """A writer whose lock wait times out tries again and the client sees only the 202."""
    async with api(database, db_lock_timeout_s=0.2, api_request_timeout_s=60) as client:
        lock = Blocked(database)
        waiting = asyncio.create_task(place(client))
        waits: set[str] = set()

        async def tried_again() -> bool:
            waits.update(row[0] for row in query(database, LOCK_WAITS))
            return len(waits) > 1

        await eventually(tried_again, timeout_s=20, what="a second wait for the lock")
        assert not waiting.done()
        lock.release()
        await waiting
    assert count(database, "orders.orders") == 1


@pytest.fixture
def own_server(public_dir: Path) -> Iterator[Postgres]:
    """A migrated server that the test may stop."""
    server = Postgres(public_dir / "postgres", fsync=False)
    server.start()
    upgrade(server.dsn)
    yield server
    server.kill()


@pytest.mark.faults
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_without_postgresql_it_is_a_quick_503_and_it_comes_back(
    own_server: Postgres, mode: str
) -> None:
    """Orders, reads, pages and readiness say 503 soon; when it is back all is well."""
    async with api(own_server.dsn) as client:
        before = await place(client)
        own_server.stop(mode)  # type: ignore[arg-type]
        for path in ("/api/orders", "/api/products", "/"):
            started = time.monotonic()
            answer = await client.get(path)
            body = await problem(answer, 503)
            assert time.monotonic() - started < 10
            assert body["code"] == "database_unavailable"
            assert int(answer.headers["Retry-After"]) > 0
        refused = await together(*(client.post("/api/orders", json=AMOUNT) for _ in range(20)))
        assert {answer.status for answer in refused} == {503}
        assert (await client.get("/livez")).status == 200
        assert (await client.get("/readyz")).status == 503
        assert (await (await client.get("/health")).json())["status"] == "DOWN"
        own_server.start()
        await eventually(lambda: _accepted(client), timeout_s=60, what="an accepted order")
        assert (await client.get("/readyz")).status == 200
        assert (await client.get(f"/api/orders/{before['orderId']}")).status == 200
    assert count(own_server.dsn, "orders.orders") == count(own_server.dsn, "ops.outbox") == 2


async def test_a_restart_between_two_orders_is_not_noticed(own_server: Postgres) -> None:
    """Dead pooled connections cost nobody an error."""
    async with api(own_server.dsn) as client:
        await together(*(place(client) for _ in range(20)))
        own_server.stop("fast")
        own_server.start()
        await together(*(place(client) for _ in range(20)))
    assert count(own_server.dsn, "orders.orders") == 40


async def _accepted(client: Client) -> bool:
    return (await client.post("/api/orders", json=AMOUNT)).status == 202


async def _waits_for_lock(dsn: str) -> bool:
    return bool(query(dsn, "select 1 from pg_locks where not granted"))
