"""Create the panes that SLOs are counted in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "pane",
        sa.Column("sli", sa.Text(), nullable=False),
        sa.Column("width_s", sa.Integer(), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("good", sa.Integer(), nullable=False),
        sa.Column("bad", sa.Integer(), nullable=False),
        sa.Column("sketch", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("good >= 0 and bad >= 0", name=op.f("ck_pane_counts")),
        sa.PrimaryKeyConstraint("sli", "width_s", "start_at", "partition", name=op.f("pk_pane")),
        schema="slo",
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "progress",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "partition", name=op.f("pk_progress")),
        schema="slo",
        postgresql_with={"fillfactor": 50},
    )
    op.add_column(
        "outbox",
        sa.Column("tracestate", sa.Text(), server_default=sa.text("''"), nullable=False),
        schema="ops",
    )
    op.add_column(
        "outbox_parked",
        sa.Column("tracestate", sa.Text(), server_default=sa.text("''"), nullable=False),
        schema="ops",
    )
