"""What the API tests share: a running API over a given database, and direct looks into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

import psycopg2
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.db.engine import Database
from app.settings import load_settings
from web.application import Extension, build
from web.context import Context

Client = TestClient[web.Request, web.Application]

AMOUNT = {"customerId": "ada", "total": "12.50", "currency": "EUR"}


@asynccontextmanager
async def api(
    dsn: str, *, extensions: Sequence[Extension] = (), **changes: Any
) -> AsyncIterator[Client]:
    """Run the API over `dsn` with some settings changed, and what a lab adds to it."""
    values = {"role": "web", "postgres_dsn": dsn, "db_pool_max": 4, **changes}
    settings = load_settings(**values)
    db = await Database.open(settings, application_name="web-test")
    client: Client = TestClient(TestServer(build(Context(settings, db), extensions)))
    async with client:
        yield client
    await db.close()


def query(dsn: str, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, committed; return its rows if it has any."""
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []


def count(dsn: str, table: str) -> int:
    """Return how many rows a table has."""
    return int(query(dsn, f"select count(*) from {table}")[0][0])


def move_saga(dsn: str, order_id: str, state: str, reason: str = "") -> None:
    """Give an order a saga in `state`, as far as readers of the order are concerned."""
    query(
        dsn,
        "insert into orders.saga (order_id, partition, version, state, reason, terminal, body,"
        " created_at, updated_at) values (%s, 0, 1, %s, %s, false, '', now(), now())",
        order_id,
        state,
        reason,
    )


async def place(client: Client, body: Any = None, **headers: str) -> dict[str, Any]:
    """Place an order that must be accepted; return the reply."""
    answer = await client.post("/api/orders", json=body or AMOUNT, headers=headers)
    assert answer.status == 202, await answer.text()
    reply: dict[str, Any] = await answer.json()
    return reply


async def problem(answer: Any, status: int) -> dict[str, Any]:
    """Assert that an answer is a proper problem of `status`; return its body."""
    text = await answer.text()
    assert answer.status == status, text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    body: dict[str, Any] = await answer.json()
    assert body["status"] == status
    assert body["requestId"] == answer.headers["X-Request-ID"]
    assert {"type", "title", "code", "detail"} <= body.keys()
    assert "Traceback" not in text
    assert "psycopg2" not in text
    return body


async def together(*calls: Any) -> list[Any]:
    """Run coroutines at the same time and return their results in order."""
    return list(await asyncio.gather(*calls))
