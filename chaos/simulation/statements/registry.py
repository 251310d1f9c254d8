"""Which function stands for which statement."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app.errors import RowsMissed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from app.db.statements import Statement
    from chaos.simulation.database import Tx

Params = Any
Answer = list[tuple[Any, ...]] | int
Run = Any
"""async (tx, params) -> rows, or how many rows were touched."""

_RUNS: dict[Statement, Run] = {}


class NotSimulated(Exception):
    """A statement has no function here: write one, and add it to the contract test."""


def runs(statement: Statement) -> Callable[[Run], Run]:
    """Register the decorated function for `statement`."""

    def register(function: Run) -> Run:
        _RUNS[statement] = function
        return function

    return register


async def run_statement(tx: Tx, statement: Statement, params: Mapping[str, Any]) -> Answer:
    """Run one statement in `tx`; raises what PostgreSQL's answer would be classified as."""
    function: Callable[..., Awaitable[Answer]] | None = _RUNS.get(statement)
    if function is None:
        raise NotSimulated(statement.sql)
    return await function(tx, params)


def simulated() -> frozenset[Statement]:
    """All statements that have a function."""
    return frozenset(_RUNS)


@contextmanager
def replaced(statement: Statement, function: Run) -> Iterator[None]:
    """Let another function stand for `statement`: for planted defects."""
    before = _RUNS[statement]
    _RUNS[statement] = function
    try:
        yield
    finally:
        _RUNS[statement] = before


def expect(touched: int, rows: int) -> Answer:
    """What `ops.expect_rows` does."""
    if touched != rows:
        raise RowsMissed(f"{touched} rows instead of {rows}")
    return [(None,)]
