"""Tell notifications of one subject and kind apart, and let what is recorded twice be heap-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.add_column(
        "notification",
        sa.Column("occurrence", sa.Text(), server_default=sa.text("''"), nullable=False),
        schema="notifications",
    )
    for constraint in ("uq_notification_subject_kind", "pk_notification"):
        op.drop_constraint(constraint, "notification", schema="notifications")
    op.create_primary_key(
        op.f("pk_notification"),
        "notification",
        ["subject", "kind", "occurrence"],
        schema="notifications",
    )
    op.execute("alter table notifications.notification set (fillfactor = 50)")
    op.drop_index("ix_inbox_ticked", "inbox", schema="ops")
    op.add_column(
        "inbox",
        sa.Column(
            "ticked", sa.Boolean(), sa.Computed("status = 4", persisted=True), nullable=False
        ),
        schema="ops",
    )
    op.create_index(
        "ix_inbox_ticked",
        "inbox",
        ["consumer", "partition"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("ticked"),
    )
