"""The database in memory keeps the contracts of PostgreSQL: one set of assertions, both run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from app.db.engine import Database, statement
from app.settings import Settings
from chaos.simulation.environment import installed
from chaos.simulation.plan import Plan
from chaos.simulation.statements import registry, simulated
from chaos.simulation.statements.participants import STOCK, StockRow
from chaos.simulation.statements.sagas import HISTORY
from chaos.simulation.world import World
from tests.simulation.database_contract import CONTRACTS, a_lock_is_waited_for_so_long, run
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CALM = Plan(seed=1, orders=1, faults=(), until_s=1.0)
_NAMES = [one.__name__ for one in CONTRACTS]  # type: ignore[attr-defined]
_STOCK = statement(
    "insert into inventory.stock (sku, available, restocked) values (:sku, :count, :count)"
)
_HISTORY = statement("select status from orders.order_history where order_id = :one order by id")
_BLOCKED = statement("select count(*) from pg_locks where not granted")


class MemoryKit:
    """The kit of the database in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def stock(self, sku: str, available: int) -> None:
        self._world.database.tables[STOCK][sku] = StockRow(available, 0, 0, available)

    async def history(self, order_id: str) -> list[str]:
        lines = sorted(self._world.database.tables[HISTORY].items())
        return [line.status for _, line in lines if line.order_id == order_id]

    async def until_blocked(self) -> None:
        while not self._world.database._waiting:
            await asyncio.sleep(0.001)


class PostgresKit:
    """The kit of the real one."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def stock(self, sku: str, available: int) -> None:
        await self._db.execute(_STOCK, sku=sku, count=available)

    async def history(self, order_id: str) -> list[str]:
        return [status for (status,) in await self._db.fetch(_HISTORY, one=order_id)]

    async def until_blocked(self) -> None:
        async def look() -> bool:
            return (await self._db.fetch(_BLOCKED))[0][0] > 0

        await eventually(look, timeout_s=10, what="a transaction that waits", every_s=0.01)


def in_memory(function: Callable[..., Awaitable[None]]) -> None:
    """Run one contract on a fresh world."""
    world = World(CALM)
    with installed(world):
        try:
            world.loop.run(run(function, Database(world.db_limits, 4), MemoryKit(world)))
        finally:
            world.loop.close()
    assert world.loop.problems == []


@pytest.mark.unit
@pytest.mark.parametrize("function", CONTRACTS, ids=_NAMES)
def test_the_database_in_memory_keeps(function: Callable[..., Awaitable[None]]) -> None:
    """The contract holds on virtual time."""
    in_memory(function)


@pytest.mark.integration
@pytest.mark.parametrize("function", CONTRACTS, ids=_NAMES)
async def test_postgresql_keeps(function: Callable[..., Awaitable[None]], database: str) -> None:
    """The same assertions hold on the real server."""
    lock_timeout_s = 1 if function is a_lock_is_waited_for_so_long else 10
    settings = Settings(postgres_dsn=database, db_pool_max=5, db_lock_timeout_s=lock_timeout_s)  # type: ignore[arg-type]
    db = await Database.open(settings, application_name="contract")
    try:
        await run(function, db, PostgresKit(db))
    finally:
        await db.close()


@pytest.mark.unit
def test_every_simulated_statement_is_under_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """No function stands for a statement that no contract compares with PostgreSQL."""
    seen: set[Any] = set()
    real = registry.run_statement

    async def noted(tx: Any, one: Any, params: Any) -> Any:
        seen.add(one)
        return await real(tx, one, params)

    monkeypatch.setattr("chaos.simulation.connection.run_statement", noted)
    for function in CONTRACTS:
        in_memory(function)
    assert {one.sql for one in simulated() - seen} == set()
