"""Events and a database for participants' handlers, without Kafka."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg2

from app import ids
from app.db.engine import Database
from app.delivery import Applied, Call, Event, Reply, Retry
from app.errors import Indefinite
from app.messages import decode
from app.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from app.messages import Body

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = NOW + timedelta(seconds=10)
PAST = NOW - timedelta(seconds=1)
_offsets = count()


@asynccontextmanager
async def opened(dsn: str, connections: int = 2) -> AsyncIterator[Database]:
    """The product's own facade on a test's database."""
    settings = load_settings(postgres_dsn=dsn, db_pool_max=connections)
    database = await Database.open(settings, application_name="participant-test")
    try:
        yield database
    finally:
        await database.close()


def order() -> str:
    return str(uuid4())


def event(body: Body, step: str, *, attempt: int = 0) -> Event:
    """A command as the core hands it over; the same order and step give the same command id."""
    order_id = body.order_id  # type: ignore[attr-defined]
    identity = ids.command_id(order_id, step, "forward")
    return Event(
        topic=body.TOPICS[0],
        partition=0,
        offset=next(_offsets),
        key=order_id.encode(),
        event_id=identity,
        type=body.ce_type(),
        body=body,
        attempt=attempt,
        delivery=attempt,
        correlation_id=order_id,
        causation_id=order_id,
        traceparent="",
        record=None,
    )


def bodies(applied: Applied | Call | Retry) -> list[Any]:
    """The bodies of what is to be published, read back as a consumer reads them."""
    assert isinstance(applied, Applied)
    outputs = applied.outputs
    return [decode(out.topic, out.headers, out.key, out.value).body for out in outputs]


def result(applied: Applied | Call | Retry) -> Any:
    return bodies(applied)[0]


async def apply(database: Database, handler: Any, *events: Event) -> list[Applied]:
    """One batch of a plain handler in its one transaction."""
    async with database.transaction() as tx:
        applied: list[Applied] = await handler.apply(tx, events, NOW)
    return applied


async def begin(database: Database, handler: Any, *events: Event) -> list[Applied | Call | Retry]:
    """First transaction of a calling handler."""
    async with database.transaction() as tx:
        begun: list[Applied | Call | Retry] = await handler.begin(tx, events, NOW)
    return begun


async def call(handler: Any, request: Any) -> Any:
    """The call as the core makes it: an indefinite error is its result."""
    try:
        return await handler.call(request)
    except Indefinite as error:
        return error


async def complete(
    database: Database, handler: Any, replies: Sequence[Reply]
) -> list[Applied | Retry]:
    """Second transaction of a calling handler."""
    async with database.transaction() as tx:
        completed: list[Applied | Retry] = await handler.complete(tx, replies, NOW)
    return completed


async def settle(database: Database, handler: Any, *events: Event) -> list[Any]:
    """One whole batch of a calling handler: apply - call - apply; one outcome per event."""
    begun = await begin(database, handler, *events)
    replies = [
        Reply(one, started.request, await call(handler, started.request))
        for one, started in zip(events, begun, strict=True)
        if isinstance(started, Call)
    ]
    outcomes: dict[int, Any] = {
        id(one): started for one, started in zip(events, begun, strict=True)
    }
    if replies:
        completed = await complete(database, handler, replies)
        outcomes.update(
            (id(reply.event), outcome) for reply, outcome in zip(replies, completed, strict=True)
        )
    return [outcomes[id(one)] for one in events]


def rows(dsn: str, sql: str, *params: Any) -> list[tuple[Any, ...]]:
    """Read the database past the product, with a connection of the test's own."""
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()
