"""Plug-in: the orchestrator writes a saga whatever version PostgreSQL has.

Cure removed: `WHERE version = expected`, by which PostgreSQL refuses a stale working copy.
Hurts when: the working copies are older than PostgreSQL, as after a late changelog write of a
zombie, and a customer cancels.
Breaks: O5 (versions go back, illegal steps), and what follows from deciding on the past: O4, O7,
X4, P2, P3, P4, S3, H1, D2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.db import sagas
from app.db.statements import Statement
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App

FENCE = " and s.version = new.expected"


def unfenced(fenced: Statement) -> Statement:
    """The statement without its fence. Raises ValueError when it has none."""
    if FENCE not in fenced.sql:
        raise ValueError(f"no fence to take out of: {fenced.sql}")
    return Statement(fenced.sql.replace(FENCE, ""), fenced.names, {}, {})


def install(app: App) -> None:
    """Take the fence from the orchestrator's writes."""
    if unsafe(app, __name__, "the version fence of sagas", "orchestrator"):
        replace(sagas, "_WRITE", unfenced(sagas._WRITE))
        replace(sagas, "_WRITE_ALL", unfenced(sagas._WRITE_ALL))
