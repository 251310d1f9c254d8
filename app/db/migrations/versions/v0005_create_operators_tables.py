"""Create what operators and the laboratory work with: jobs, reviews, notifications, GameDays."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "notification",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status in ('INTENT', 'SENT')", name=op.f("ck_notification_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
        sa.UniqueConstraint("subject", "kind", name=op.f("uq_notification_subject_kind")),
        schema="notifications",
    )
    op.create_index(
        "ix_notification_created_at_id",
        "notification",
        ["created_at", "id"],
        unique=False,
        schema="notifications",
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("request_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        schema="ops",
    )
    op.create_index("ix_audit_log_target", "audit_log", ["target"], unique=False, schema="ops")
    op.create_table(
        "chaos_switch",
        sa.Column("single", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("thrown_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("thrown_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("single", name=op.f("ck_chaos_switch_single")),
        sa.PrimaryKeyConstraint("single", name=op.f("pk_chaos_switch")),
        schema="ops",
    )
    op.create_table(
        "dead_letter_job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("selection", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'QUEUED'"), nullable=False),
        sa.Column("rate_per_s", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("refused", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "tally",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("checkpoint", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column("owner", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("error", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind in ('redrive', 'edit', 'discard', 'purge')", name=op.f("ck_dead_letter_job_kind")
        ),
        sa.CheckConstraint(
            "status in ('QUEUED', 'RUNNING', 'DONE', 'CANCELLED', 'FAILED')",
            name=op.f("ck_dead_letter_job_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter_job")),
        schema="ops",
    )
    op.create_index(
        "ix_dead_letter_job_created_at",
        "dead_letter_job",
        ["created_at", "id"],
        unique=False,
        schema="ops",
    )
    op.create_index(
        "ix_dead_letter_job_open",
        "dead_letter_job",
        ["created_at"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("status in ('QUEUED', 'RUNNING')"),
    )
    op.create_table(
        "flood",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("dead_letters", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("released_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("consumer", name=op.f("pk_flood")),
        schema="ops",
    )
    op.create_table(
        "gameday_run",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'QUEUED'"), nullable=False),
        sa.Column("verdict", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("phase", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("abort_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("owner", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("journal", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("report", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('QUEUED', 'RUNNING', 'ENDED')", name=op.f("ck_gameday_run_status")
        ),
        sa.CheckConstraint(
            "verdict in ('', 'passed', 'failed', 'aborted', 'inconclusive')",
            name=op.f("ck_gameday_run_verdict"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gameday_run")),
        schema="ops",
    )
    op.create_index(
        "ix_gameday_run_created_at", "gameday_run", ["created_at"], unique=False, schema="ops"
    )
    op.create_table(
        "rewind",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'QUEUED'"), nullable=False),
        sa.Column("positions", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("error", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status in ('QUEUED', 'DONE', 'FAILED')", name=op.f("ck_rewind_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rewind")),
        schema="ops",
    )
    op.create_index(
        "uq_rewind_queued",
        "rewind",
        ["role"],
        unique=True,
        schema="ops",
        postgresql_where=sa.text("status = 'QUEUED'"),
    )
    op.create_table(
        "fraud_review",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("score", sa.SmallInteger(), nullable=False),
        sa.Column("reasons", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("decision", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("decided_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("decision_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "decision in ('', 'APPROVED', 'REJECTED', 'AUTO_REJECTED')",
            name=op.f("ck_fraud_review_decision"),
        ),
        sa.CheckConstraint("score between 0 and 100", name=op.f("ck_fraud_review_score")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_fraud_review")),
        schema="orders",
    )
    op.create_index(
        "ix_fraud_review_open",
        "fraud_review",
        ["created_at", "order_id"],
        unique=False,
        schema="orders",
        postgresql_where=sa.text("decision = ''"),
    )
    op.add_column(
        "dead_letter",
        sa.Column("raw_headers", sa.LargeBinary(), server_default=sa.text("''"), nullable=False),
        schema="ops",
    )
    op.add_column(
        "dead_letter",
        sa.Column("status", sa.Text(), server_default=sa.text("'OPEN'"), nullable=False),
        schema="ops",
    )
    op.add_column("dead_letter", sa.Column("job_id", sa.Uuid(), nullable=True), schema="ops")
    op.add_column(
        "dead_letter",
        sa.Column("settled_by", sa.Text(), server_default=sa.text("''"), nullable=False),
        schema="ops",
    )
    op.add_column(
        "dead_letter",
        sa.Column("settle_reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        schema="ops",
    )
    op.add_column(
        "dead_letter",
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        schema="ops",
    )
    op.drop_index(op.f("ix_dead_letter_fingerprint"), table_name="dead_letter", schema="ops")
    op.create_index(
        "ix_dead_letter_group",
        "dead_letter",
        ["fingerprint", "topic", "at", "status"],
        unique=False,
        schema="ops",
    )
    op.create_index(
        "ix_dead_letter_job",
        "dead_letter",
        ["job_id"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("status = 'CLAIMED'"),
    )
    op.create_index(
        "ix_dead_letter_open",
        "dead_letter",
        ["topic", "partition", "offset"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("status = 'OPEN'"),
    )
    op.create_index(
        "ix_dead_letter_open_at",
        "dead_letter",
        ["topic", "at", "id"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("status = 'OPEN'"),
    )
    op.create_index(
        "ix_dead_letter_topic_at_id",
        "dead_letter",
        ["topic", "at", "id"],
        unique=False,
        schema="ops",
    )
    op.add_column(
        "worker_run", sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True), schema="ops"
    )
    op.create_index(
        "ix_orders_customer_id_created_at",
        "orders",
        ["customer_id", "created_at"],
        unique=False,
        schema="orders",
    )
    op.add_column(
        "payment_attempt",
        sa.Column("arm", sa.Text(), server_default=sa.text("'stable'"), nullable=False),
        schema="payments",
    )
    op.create_index(
        "ix_payment_attempt_created_at",
        "payment_attempt",
        ["created_at"],
        unique=False,
        schema="payments",
        postgresql_using="brin",
    )
    op.execute("insert into ops.chaos_switch default values")
