"""The working copy of running sagas.

Key: order id (UTF-8). Value: app.domain.record.to_bytes. Owner: role orchestrator; partitioned
like order.created. A settled saga leaves after `table_entry_retention_s`, so the table holds the
orders of that time. PostgreSQL (orders.saga) is the authority: a stale or lost entry costs a
reload, never an effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery import Table, declare_table

if TYPE_CHECKING:
    from app.delivery import App

NAME = "sagas"


def declare(app: App) -> Table:
    """Declare the table; only in the role that owns it."""
    return declare_table(app, NAME, "Working copies of running sagas.")
