"""Table `probe`: how far the rebalance ledger's numbered events have come.

Key: the event number in ASCII. Value: `<stage>:<writes>`. Owner: role `probe` (lab only).
Partitions: as the keyed topics. Retention: none; a ledger run ends with its lab. Growth: one entry
of some 20 bytes per event.
"""

from __future__ import annotations

from app.delivery import App, Table, declare_table


def declare(app: App) -> Table:
    """Declare the table in the role that owns it."""
    return declare_table(app, "probe", __doc__ or "")
