"""What the inventory role has finished: a fast filter in front of its inbox.

Key: event id (16 bytes). Value: time and stored outputs (app.delivery.idempotency). Owner: role
inventory; partitioned like its inputs. Entries leave after `table_entry_retention_s`. Losing the
table costs look-ups in PostgreSQL, never an effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery import Table, declare_table

if TYPE_CHECKING:
    from app.delivery import App


def declare(app: App) -> Table:
    """Declare the table; only in the role that owns it."""
    return declare_table(app, "inventory_idempotency", "Finished commands of the inventory role.")
