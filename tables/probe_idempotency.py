"""Table `probe_idempotency`: pre-filter of events the probe has finished.

Key: the event id's 16 bytes. Value: see app.delivery.idempotency. Owner: role `probe` (lab only).
Partitions: as the keyed topics. Retention: `table_entry_retention_s`. Growth: bounded by it.
"""

from __future__ import annotations

from app.delivery import App, Table, declare_table


def declare(app: App) -> Table:
    """Declare the table in the role that owns it."""
    return declare_table(app, "probe_idempotency", __doc__ or "")
