"""The working copy of the panes that service levels are counted in.

Key: app.slo.panes.Key.packed. Value: app.slo.panes.to_bytes. Owner: role slo; partitioned like
order.status_changed. A pane leaves when no window needs it any more, so the table is bounded by
time and not by load. PostgreSQL (slo.pane) is the authority, written in the transaction of the
events' inbox rows; the table is what the role recovers by itself and what `/status` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery import Table, declare_table

if TYPE_CHECKING:
    from app.delivery import App

NAME = "slo_panes"


def declare(app: App) -> Table:
    """Declare the table; only in the role that owns it."""
    return declare_table(app, NAME, "Working copies of the panes of service levels.")
