"""Make the saga the only place of an order's status: an order's own row is never updated again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COPIES = ("status", "reason", "saga_version", "updated_at")
_REASONS = """
update orders.saga s set reason = o.reason
  from orders.orders o where o.order_id = s.order_id and o.reason <> ''
"""


def upgrade() -> None:
    """Apply this revision."""
    reason = sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False)
    op.add_column("saga", reason, schema="orders")
    op.execute(_REASONS)
    for column in _COPIES:
        op.drop_column("orders", column, schema="orders")
    op.execute("alter table orders.orders reset (fillfactor)")
