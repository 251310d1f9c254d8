"""Statements of `app.db.sagas`. Tables: saga, order_history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.db import sagas
from chaos.simulation.statements.inbox import INBOX
from chaos.simulation.statements.registry import Answer, Params, expect, runs

if TYPE_CHECKING:
    from datetime import datetime

    from chaos.simulation.database import Tx

SAGA, HISTORY = "saga", "order_history"


class SagaRow(NamedTuple):
    """A row of orders.saga."""

    partition: int
    version: int
    state: str
    reason: str
    terminal: bool
    body: bytes
    next_due: datetime | None
    updated_at: datetime


class HistoryRow(NamedTuple):
    """A row of orders.order_history."""

    order_id: str
    saga_version: int
    event: str
    status: str
    reason: str
    cause_id: str
    at: datetime


@runs(sagas._LOAD)
async def load(tx: Tx, p: Params) -> Answer:
    """Sagas by order id."""
    found = ((one, tx.get(SAGA, one)) for one in p["order_ids"])
    return [(one, row.version, row.body) for one, row in found if row is not None]


@runs(sagas._WRITE)
async def write(tx: Tx, p: Params) -> Answer:
    """Move each saga from the version expected; return the orders that moved."""
    return [(one,) for one in await move(tx, p, guarded=True)]


@runs(sagas._WRITE_ALL)
async def write_all(tx: Tx, p: Params) -> Answer:
    """The same, all or none."""
    return expect(len(await move(tx, p, guarded=True)), p["rows"])


async def move(tx: Tx, p: Params, *, guarded: bool) -> list[str]:
    """Update what is there, insert what is expected not to be, as one statement."""
    orders = p["order_ids"]
    there = {one for one in orders if tx.get(SAGA, one) is not None}
    moved: list[str] = []
    for order_id, expected, row in _new_rows(p):
        if order_id in there:
            await tx.lock(SAGA, [order_id])
            known = tx.get(SAGA, order_id)
            if known is not None and (known.version == expected or not guarded):
                tx.put(SAGA, order_id, row)
                moved.append(order_id)
        elif expected == 0 and await tx.insert(SAGA, order_id, row):
            moved.append(order_id)
    return moved


def _new_rows(p: Params) -> list[tuple[str, int, SagaRow]]:
    columns = zip(
        *(p[name] for name in ("order_ids", "expected", "partitions", "versions", "states")),
        *(p[name] for name in ("reasons", "terminal", "bodies", "dues")),
        strict=True,
    )
    return [(one[0], one[1], SagaRow._make((*one[2:9], p["now"]))) for one in columns]


@runs(sagas._HISTORY)
async def history(tx: Tx, p: Params) -> Answer:
    """Append lines of history."""
    names = ("order_ids", "versions", "events", "statuses", "reasons", "cause_ids", "times")
    lines: list[Any] = list(zip(*(p[name] for name in names), strict=True))
    for line in lines:
        tx.put(HISTORY, tx.server.next_id(), HistoryRow(*line))
    return len(lines)


@runs(sagas._PUT_OUT)
async def put_out(tx: Tx, p: Params) -> Answer:
    """Stored outputs of the causes in the history of these orders, in its order."""
    causes = {
        (line.order_id, line.cause_id): None
        for _, line in sorted(tx.rows(HISTORY))
        if line.order_id in p["order_ids"] and line.event
    }
    found = ((order_id, tx.get(INBOX, (p["consumer"], cause))) for order_id, cause in causes)
    return [(order_id, row.outputs) for order_id, row in found if row is not None]


@runs(sagas._IDLE)
async def idle(tx: Tx, p: Params) -> Answer:
    """Running sagas that were not touched for long."""
    found = [
        (row.updated_at, one, row)
        for one, row in tx.rows(SAGA)
        if row.partition == p["partition"] and not row.terminal and row.updated_at < p["idle_since"]
    ]
    found.sort(key=lambda item: item[:2])
    return [(one, row.version, row.body) for _, one, row in found[: p["limit"]]]


@runs(sagas._TOUCH)
async def touch(tx: Tx, p: Params) -> Answer:
    """Not idle any more."""
    touched = await tx.lock(SAGA, p["order_ids"])
    for one in touched:
        tx.put(SAGA, one, tx.get(SAGA, one)._replace(updated_at=p["now"]))  # type: ignore[union-attr]
    return len(touched)
