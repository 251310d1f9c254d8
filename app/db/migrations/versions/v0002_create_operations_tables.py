"""Create the tables of operations: inbox, outbox, dead letters, runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ = sa.Column
_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("now()")


def upgrade() -> None:
    """Apply this revision."""
    _ops_dead_letter()
    _ops_inbox()
    _ops_killer_journal()
    _ops_outbox()
    _ops_outbox_parked()
    _ops_relay_lease()
    _ops_relay_member()
    _ops_worker_run()


def _ops_dead_letter() -> None:
    op.create_table(
        "dead_letter",
        _("id", sa.Uuid(), nullable=False),
        _("topic", sa.Text(), nullable=False),
        _("partition", sa.Integer(), nullable=False),
        _("offset", sa.BigInteger(), nullable=False),
        _("origin_topic", sa.Text(), nullable=False),
        _("origin_partition", sa.Integer(), nullable=False),
        _("origin_offset", sa.BigInteger(), nullable=False),
        _("consumer", sa.Text(), nullable=False),
        _("event_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("error_class", sa.Text(), nullable=False),
        _("error_message", sa.Text(), nullable=False),
        _("fingerprint", sa.Text(), nullable=False),
        _("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        _("key", sa.LargeBinary(), nullable=True),
        _("value", sa.LargeBinary(), nullable=True),
        _("first_failed_at", _TIME, nullable=False),
        _("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
        sa.UniqueConstraint(
            "topic", "partition", "offset", name=op.f("uq_dead_letter_topic_partition_offset")
        ),
        schema="ops",
    )
    op.create_index("ix_dead_letter_at", "dead_letter", ["at"], unique=False, schema="ops")
    op.create_index(
        "ix_dead_letter_fingerprint", "dead_letter", ["fingerprint"], unique=False, schema="ops"
    )


def _ops_inbox() -> None:
    op.create_table(
        "inbox",
        _("consumer", sa.Text(), nullable=False),
        _("event_id", sa.Uuid(), nullable=False),
        _("status", sa.SmallInteger(), nullable=False),
        _("attempt", sa.Integer(), nullable=False),
        _("outputs", sa.LargeBinary(), nullable=False),
        _("topic", sa.Text(), nullable=False),
        _("partition", sa.Integer(), nullable=False),
        _("offset", sa.BigInteger(), nullable=False),
        _("at", _TIME, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("consumer", "event_id", name=op.f("pk_inbox")),
        schema="ops",
    )
    op.create_index(
        "ix_inbox_at", "inbox", ["at"], unique=False, schema="ops", postgresql_using="brin"
    )
    op.create_index(
        "ix_inbox_ticked",
        "inbox",
        ["consumer", "partition"],
        schema="ops",
        postgresql_where=sa.text("status = 4"),
    )


def _ops_killer_journal() -> None:
    op.create_table(
        "killer_journal",
        _("consumer", sa.Text(), nullable=False),
        _("topic", sa.Text(), nullable=False),
        _("partition", sa.Integer(), nullable=False),
        _("incarnation", sa.Text(), nullable=False),
        _("first_offset", sa.BigInteger(), nullable=False),
        _("last_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "consumer", "topic", "partition", "incarnation", name=op.f("pk_killer_journal")
        ),
        schema="ops",
    )


def _ops_outbox() -> None:
    op.create_table(
        "outbox",
        _("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _("event_id", sa.Uuid(), nullable=False),
        _("aggregate_type", sa.Text(), nullable=False),
        _("aggregate_id", sa.Text(), nullable=False),
        _("aggregate_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _("topic", sa.Text(), nullable=False),
        _("ce_id", sa.Text(), nullable=False),
        _("ce_source", sa.Text(), nullable=False),
        _("ce_type", sa.Text(), nullable=False),
        _("ce_specversion", sa.Text(), server_default=sa.text("'1.0'"), nullable=False),
        _("ce_time", sa.Text(), nullable=False),
        _("ce_correlationid", sa.Text(), nullable=False),
        _("ce_causationid", sa.Text(), nullable=False),
        _("traceparent", sa.Text(), nullable=False),
        _("content_type", sa.Text(), server_default=sa.text("'application/json'"), nullable=False),
        _("payload", sa.LargeBinary(), nullable=False),
        _("shard", sa.SmallInteger(), nullable=False),
        _("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _("created_at", _TIME, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
        schema="ops",
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.01",
            "autovacuum_vacuum_threshold": "5000",
        },
    )


def _ops_outbox_parked() -> None:
    op.create_table(
        "outbox_parked",
        _("id", sa.BigInteger(), nullable=False),
        _("event_id", sa.Uuid(), nullable=False),
        _("aggregate_type", sa.Text(), nullable=False),
        _("aggregate_id", sa.Text(), nullable=False),
        _("aggregate_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _("topic", sa.Text(), nullable=False),
        _("ce_id", sa.Text(), nullable=False),
        _("ce_source", sa.Text(), nullable=False),
        _("ce_type", sa.Text(), nullable=False),
        _("ce_specversion", sa.Text(), server_default=sa.text("'1.0'"), nullable=False),
        _("ce_time", sa.Text(), nullable=False),
        _("ce_correlationid", sa.Text(), nullable=False),
        _("ce_causationid", sa.Text(), nullable=False),
        _("traceparent", sa.Text(), nullable=False),
        _("content_type", sa.Text(), server_default=sa.text("'application/json'"), nullable=False),
        _("payload", sa.LargeBinary(), nullable=False),
        _("shard", sa.SmallInteger(), nullable=False),
        _("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _("created_at", _TIME, server_default=_NOW, nullable=False),
        _("error", sa.Text(), nullable=False),
        _("parked_at", _TIME, server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_parked")),
        schema="ops",
    )


def _ops_relay_lease() -> None:
    op.create_table(
        "relay_lease",
        _("shard", sa.SmallInteger(), nullable=False),
        _("owner", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        _("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("shard", name=op.f("pk_relay_lease")),
        schema="ops",
        postgresql_with={"fillfactor": 50},
    )


def _ops_relay_member() -> None:
    op.create_table(
        "relay_member",
        _("worker_id", sa.Text(), nullable=False),
        _("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_relay_member")),
        schema="ops",
        postgresql_with={"fillfactor": 50},
    )


def _ops_worker_run() -> None:
    op.create_table(
        "worker_run",
        _("incarnation", sa.Text(), nullable=False),
        _("worker_id", sa.Text(), nullable=False),
        _("role", sa.Text(), nullable=False),
        _("started_at", _TIME, nullable=False),
        _("ended_at", _TIME, nullable=True),
        _("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("counted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("incarnation", name=op.f("pk_worker_run")),
        schema="ops",
    )
    op.create_index(
        "ix_worker_run_counted",
        "worker_run",
        ["role", "ended_at"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("counted"),
    )
    op.create_index(
        "ix_worker_run_open",
        "worker_run",
        ["worker_id"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("ended_at is null"),
    )
