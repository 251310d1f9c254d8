"""Every table of the platform, one PostgreSQL schema per owner.

Guarantees, by constraint and not by code: no oversell and no leaked stock unit, one live charge
per order, one reservation per order and SKU, one inbox row per consumer and event. Times are UTC.
The migrations under `app/db/migrations` create what stands here; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.db.columns import integer_column, metadata, one_of, text_column, time_column

__all__ = ["SCHEMAS", "metadata"]

SCHEMAS = (
    "catalog",
    "orders",
    "payments",
    "inventory",
    "shipping",
    "notifications",
    "slo",
    "ops",
)

product = Table(
    "product",
    metadata,
    text_column("sku"),
    text_column("name"),
    text_column("category"),
    integer_column("price_minor", big=True),
    text_column("currency"),
    Column("tracked", Boolean, nullable=False, server_default=text("true")),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    time_column("created_at", now=True),
    PrimaryKeyConstraint("sku"),
    CheckConstraint("price_minor >= 0", name="price"),
    Index("ix_product_category_sku", "category", "sku"),
    schema="catalog",
)

# Written once and never updated: what becomes of an order stands in its saga.
orders = Table(
    "orders",
    metadata,
    Column("order_id", Uuid, nullable=False),
    text_column("customer_id"),
    integer_column("total_minor", big=True),
    text_column("currency"),
    Column("shipping_address", Text),
    Column("review", Boolean, nullable=False, server_default=text("false")),
    time_column("created_at"),
    PrimaryKeyConstraint("order_id"),
    CheckConstraint("total_minor >= 0", name="total"),
    Index("ix_orders_created_at_order_id", "created_at", "order_id"),
    Index("ix_orders_customer_id_created_at", "customer_id", "created_at"),
    schema="orders",
)

order_item = Table(
    "order_item",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("line", SmallInteger, nullable=False),
    text_column("product_id"),
    integer_column("quantity"),
    integer_column("unit_price_minor", big=True),
    Column("tracked", Boolean, nullable=False),
    PrimaryKeyConstraint("order_id", "line"),
    ForeignKeyConstraint(["order_id"], ["orders.orders.order_id"]),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint("unit_price_minor >= 0", name="unit_price"),
    schema="orders",
)

# No foreign key: a cancel that overtakes the creation leaves history before the order exists.
order_history = Table(
    "order_history",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("order_id", Uuid, nullable=False),
    integer_column("saga_version"),
    text_column("event", default=""),
    text_column("status"),
    text_column("reason", default=""),
    text_column("cause_id", default=""),
    time_column("at"),
    PrimaryKeyConstraint("id"),
    Index("ix_order_history_order_id_id", "order_id", "id"),
    schema="orders",
)

# Orders that scored for fraud; `decision` is empty while a person has not decided.
fraud_review = Table(
    "fraud_review",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("score", SmallInteger, nullable=False),
    Column("reasons", JSONB, nullable=False),
    text_column("decision", default=""),
    text_column("decided_by", default=""),
    text_column("decision_reason", default=""),
    time_column("created_at"),
    time_column("decided_at", nullable=True),
    PrimaryKeyConstraint("order_id"),
    CheckConstraint("score between 0 and 100", name="score"),
    one_of("decision", "", "APPROVED", "REJECTED", "AUTO_REJECTED"),
    Index("ix_fraud_review_open", "created_at", "order_id", postgresql_where=text("decision = ''")),
    schema="orders",
)

# `body` is the packed saga of the domain; the columns beside it are copies for guards and readers.
# `state` and `reason` are the order's status; an order without a row here is PENDING.
# `terminal`: final, and nothing is outstanding any more (the domain's `settled`).
# Only `partition` and `terminal` are indexed, so that a transition stays a heap-only update.
saga = Table(
    "saga",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("partition", SmallInteger, nullable=False),
    integer_column("version"),
    text_column("state"),
    text_column("reason", default=""),
    Column("terminal", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
    time_column("next_due", nullable=True),
    time_column("created_at"),
    time_column("updated_at"),
    PrimaryKeyConstraint("order_id"),
    CheckConstraint("version >= 1", name="version"),
    Index("ix_saga_running", "partition", postgresql_where=text("not terminal")),
    schema="orders",
    postgresql_with={"fillfactor": 70},
)

idempotency = Table(
    "idempotency",
    metadata,
    text_column("key"),
    Column("body_hash", LargeBinary, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("reply", LargeBinary, nullable=False),
    time_column("created_at"),
    PrimaryKeyConstraint("key"),
    Index("ix_idempotency_created_at", "created_at", postgresql_using="brin"),
    schema="orders",
)

# `charge_id` and `refund_id` are command ids and the idempotency keys at the gateway. The statuses
# EXPIRED and CANCELLED are tombstones: a late charge finds them.
payment_attempt = Table(
    "payment_attempt",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("attempt", SmallInteger, nullable=False, server_default=text("1")),
    text_column("status"),
    integer_column("version"),
    Column("charge_id", Uuid, nullable=False),
    integer_column("amount_minor", big=True),
    text_column("currency"),
    text_column("payment_id", default=""),
    text_column("refund_id", default=""),
    text_column("reason", default=""),
    text_column("arm", default="stable"),
    time_column("created_at", now=True),
    time_column("updated_at", now=True),
    PrimaryKeyConstraint("order_id", "attempt"),
    UniqueConstraint("charge_id"),
    Index("ix_payment_attempt_created_at", "created_at", postgresql_using="brin"),
    CheckConstraint("amount_minor >= 0", name="amount"),
    one_of(
        "status",
        *("INTENT", "CHARGED", "DECLINED", "EXPIRED"),
        *("CANCELLING", "REFUNDING", "REFUNDED", "CANCELLED"),
    ),
    Index(
        "uq_payment_attempt_live",
        "order_id",
        unique=True,
        postgresql_where=text("status in ('INTENT', 'CHARGED', 'CANCELLING', 'REFUNDING')"),
    ),
    schema="payments",
    postgresql_with={"fillfactor": 80},
)

# `restocked` counts every unit ever put in: available + held + consumed, always.
stock = Table(
    "stock",
    metadata,
    text_column("sku"),
    integer_column("available"),
    integer_column("held", default=0),
    integer_column("consumed", default=0, big=True),
    integer_column("restocked", big=True),
    time_column("updated_at", now=True),
    PrimaryKeyConstraint("sku"),
    CheckConstraint("available >= 0", name="available"),
    CheckConstraint("held >= 0", name="held"),
    CheckConstraint("consumed >= 0", name="consumed"),
    CheckConstraint("available + held + consumed = restocked", name="conserved"),
    schema="inventory",
    postgresql_with={"fillfactor": 50},
)

# What inventory decided for an order; a release that arrived first leaves RELEASED (tombstone).
reservation = Table(
    "reservation",
    metadata,
    Column("order_id", Uuid, nullable=False),
    text_column("status"),
    integer_column("version"),
    text_column("reason", default=""),
    time_column("created_at", now=True),
    time_column("updated_at", now=True),
    PrimaryKeyConstraint("order_id"),
    one_of("status", "HELD", "OUT_OF_STOCK", "EXPIRED", "RELEASED", "COMMITTED"),
    schema="inventory",
    postgresql_with={"fillfactor": 80},
)

# Written once with a HELD reservation and never changed; the reservation's status says the rest.
reservation_line = Table(
    "reservation_line",
    metadata,
    Column("order_id", Uuid, nullable=False),
    text_column("sku"),
    integer_column("qty"),
    PrimaryKeyConstraint("order_id", "sku"),
    ForeignKeyConstraint(["order_id"], ["inventory.reservation.order_id"]),
    CheckConstraint("qty > 0", name="qty"),
    schema="inventory",
)

shipment = Table(
    "shipment",
    metadata,
    Column("order_id", Uuid, nullable=False),
    text_column("status"),
    integer_column("version"),
    text_column("shipment_id", default=""),
    Column("address", Text),
    text_column("reason", default=""),
    time_column("created_at", now=True),
    time_column("updated_at", now=True),
    PrimaryKeyConstraint("order_id"),
    one_of("status", "SHIPPED", "REFUSED", "EXPIRED", "CANCELLED"),
    schema="shipping",
)

# One message per subject (an order's id, a SKU, a rule, a client), kind and occurrence (empty for
# an order's); `id` is derived from the three. INTENT: it may have been sent. No indexed column ever
# changes, and a page keeps room for its rows' second version: SENT is a heap-only update.
notification = Table(
    "notification",
    metadata,
    Column("id", Uuid, nullable=False),
    text_column("subject"),
    text_column("kind"),
    Column("event_id", Uuid, nullable=False),
    text_column("status"),
    text_column("text"),
    time_column("created_at"),
    time_column("sent_at", nullable=True),
    text_column("occurrence", default=""),
    PrimaryKeyConstraint("subject", "kind", "occurrence"),
    one_of("status", "INTENT", "SENT"),
    Index("ix_notification_created_at_id", "created_at", "id"),
    schema="notifications",
    postgresql_with={"fillfactor": 50},
)

# What happened within `width_s` seconds from `start_at` on, as one partition of a topic tells it:
# written in the transaction of its events' inbox rows. `sketch`: app.slo.sketch.
pane = Table(
    "pane",
    metadata,
    text_column("sli"),
    integer_column("width_s"),
    time_column("start_at"),
    Column("partition", SmallInteger, nullable=False),
    integer_column("good"),
    integer_column("bad"),
    Column("sketch", JSONB, nullable=False),
    time_column("updated_at"),
    PrimaryKeyConstraint("sli", "width_s", "start_at", "partition"),
    CheckConstraint("good >= 0 and bad >= 0", name="counts"),
    schema="slo",
    postgresql_with={"fillfactor": 70},
)

# Until when a partition was read to its end: the age of what panes say.
progress = Table(
    "progress",
    metadata,
    text_column("consumer"),
    Column("partition", SmallInteger, nullable=False),
    time_column("at"),
    PrimaryKeyConstraint("consumer", "partition"),
    schema="slo",
    postgresql_with={"fillfactor": 50},
)

# `status`: app.db.inbox.Status. `outputs`: the packed records to publish again on a repeat.
inbox = Table(
    "inbox",
    metadata,
    text_column("consumer"),
    Column("event_id", Uuid, nullable=False),
    Column("status", SmallInteger, nullable=False),
    integer_column("attempt"),
    Column("outputs", LargeBinary, nullable=False),
    text_column("topic"),
    integer_column("partition"),
    integer_column("offset", big=True),
    time_column("at", now=True),
    PrimaryKeyConstraint("consumer", "event_id"),
    Index("ix_inbox_at", "at", postgresql_using="brin"),
    # TICKED, what a dead worker may have left unpublished, in a column of its own: an index over
    # `status` would keep the update from INTENT to DONE from being heap-only. No room is kept for
    # that: most rows are never updated, and a larger heap cost what it saved (measured).
    Column("ticked", Boolean, Computed("status = 4", persisted=True), nullable=False),
    Index("ix_inbox_ticked", "consumer", "partition", postgresql_where=text("ticked")),
    schema="ops",
)

# `counted`: the run ended in a way that counts against the records it was working on. `seen_at`:
# the worker's last sign of life.
worker_run = Table(
    "worker_run",
    metadata,
    text_column("incarnation"),
    text_column("worker_id"),
    text_column("role"),
    time_column("started_at"),
    time_column("ended_at", nullable=True),
    time_column("seen_at", nullable=True),
    text_column("reason", default=""),
    Column("counted", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("incarnation"),
    Index("ix_worker_run_open", "worker_id", postgresql_where=text("ended_at is null")),
    Index("ix_worker_run_counted", "role", "ended_at", postgresql_where=text("counted")),
    schema="ops",
)

killer_journal = Table(
    "killer_journal",
    metadata,
    text_column("consumer"),
    text_column("topic"),
    integer_column("partition"),
    text_column("incarnation"),
    integer_column("first_offset", big=True),
    integer_column("last_offset", big=True),
    PrimaryKeyConstraint("consumer", "topic", "partition", "incarnation"),
    schema="ops",
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", Uuid, nullable=False),
    text_column("topic"),
    integer_column("partition"),
    integer_column("offset", big=True),
    text_column("origin_topic"),
    integer_column("origin_partition"),
    integer_column("origin_offset", big=True),
    text_column("consumer"),
    text_column("event_id", default=""),
    text_column("error_class"),
    text_column("error_message"),
    text_column("fingerprint"),
    Column("headers", JSONB, nullable=False),
    Column("raw_headers", LargeBinary, nullable=False, server_default=text("''")),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    text_column("status", default="OPEN"),
    Column("job_id", Uuid),
    text_column("settled_by", default=""),
    text_column("settle_reason", default=""),
    time_column("settled_at", nullable=True),
    time_column("first_failed_at"),
    time_column("at"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("topic", "partition", "offset"),
    one_of("status", "OPEN", "CLAIMED", "REDRIVEN", "DISCARDED", "PURGED"),
    Index("ix_dead_letter_at", "at"),
    Index("ix_dead_letter_topic_at_id", "topic", "at", "id"),
    # Counts and groups are read from this index alone.
    Index("ix_dead_letter_group", "fingerprint", "topic", "at", "status"),
    Index("ix_dead_letter_open_at", "topic", "at", "id", postgresql_where=text("status = 'OPEN'")),
    # The order in which jobs walk.
    Index(
        "ix_dead_letter_open",
        "topic",
        "partition",
        "offset",
        postgresql_where=text("status = 'OPEN'"),
    ),
    Index("ix_dead_letter_job", "job_id", postgresql_where=text("status = 'CLAIMED'")),
    schema="ops",
)

# What an operator asked to be done with dead letters, and how far it is. Worked on by whoever
# holds the lease. `tally` counts letters by what became of them, in words.
dead_letter_job = Table(
    "dead_letter_job",
    metadata,
    Column("id", Uuid, nullable=False),
    text_column("kind"),
    Column("selection", JSONB, nullable=False),
    text_column("status", default="QUEUED"),
    integer_column("rate_per_s"),
    integer_column("total", default=0),
    integer_column("done", default=0),
    integer_column("refused", default=0),
    Column("tally", JSONB, nullable=False, server_default=text("'{}'")),
    Column("checkpoint", JSONB),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    text_column("owner", default=""),
    time_column("lease_until", nullable=True),
    text_column("requested_by"),
    text_column("reason", default=""),
    text_column("error", default=""),
    time_column("created_at"),
    time_column("started_at", nullable=True),
    time_column("ended_at", nullable=True),
    PrimaryKeyConstraint("id"),
    one_of("kind", "redrive", "edit", "discard", "purge"),
    one_of("status", "QUEUED", "RUNNING", "DONE", "CANCELLED", "FAILED"),
    Index("ix_dead_letter_job_created_at", "created_at", "id"),
    Index(
        "ix_dead_letter_job_open",
        "created_at",
        postgresql_where=text("status in ('QUEUED', 'RUNNING')"),
    ),
    schema="ops",
)

# A consumer that dead-lettered too much and waits for an operator; `released_at` lets it go on.
flood = Table(
    "flood",
    metadata,
    text_column("consumer"),
    integer_column("dead_letters"),
    text_column("detail"),
    time_column("stopped_at"),
    time_column("released_at", nullable=True),
    text_column("released_by", default=""),
    PrimaryKeyConstraint("consumer"),
    schema="ops",
)

# A role that is to read its topics again from `since` on.
rewind = Table(
    "rewind",
    metadata,
    Column("id", Uuid, nullable=False),
    text_column("role"),
    time_column("since"),
    text_column("status", default="QUEUED"),
    Column("positions", JSONB),
    text_column("requested_by"),
    text_column("reason", default=""),
    text_column("error", default=""),
    time_column("created_at"),
    time_column("ended_at", nullable=True),
    PrimaryKeyConstraint("id"),
    one_of("status", "QUEUED", "DONE", "FAILED"),
    Index("uq_rewind_queued", "role", unique=True, postgresql_where=text("status = 'QUEUED'")),
    schema="ops",
)

# Who did what, from whatever command or page.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    text_column("actor"),
    text_column("action"),
    text_column("target"),
    text_column("reason", default=""),
    Column("detail", JSONB, nullable=False),
    text_column("request_id", default=""),
    time_column("at", now=True),
    PrimaryKeyConstraint("id"),
    Index("ix_audit_log_target", "target"),
    schema="ops",
)

# One row. A worker of a lab that sees a higher epoch drops every rule published before it.
chaos_switch = Table(
    "chaos_switch",
    metadata,
    Column("single", Boolean, nullable=False, server_default=text("true")),
    integer_column("epoch", default=0, big=True),
    text_column("thrown_by", default=""),
    text_column("reason", default=""),
    time_column("thrown_at", nullable=True),
    PrimaryKeyConstraint("single"),
    CheckConstraint("single", name="single"),
    schema="ops",
)

gameday_run = Table(
    "gameday_run",
    metadata,
    Column("id", Uuid, nullable=False),
    text_column("experiment"),
    text_column("title", default=""),
    Column("options", JSONB, nullable=False),
    text_column("status", default="QUEUED"),
    text_column("verdict", default=""),
    text_column("phase", default=""),
    Column("progress", JSONB),
    Column("abort_requested", Boolean, nullable=False, server_default=text("false")),
    text_column("owner", default=""),
    time_column("lease_until", nullable=True),
    text_column("requested_by"),
    text_column("error", default=""),
    Column("journal", JSONB),
    Column("report", LargeBinary),
    time_column("created_at"),
    time_column("started_at", nullable=True),
    time_column("ended_at", nullable=True),
    PrimaryKeyConstraint("id"),
    one_of("status", "QUEUED", "RUNNING", "ENDED"),
    one_of("verdict", "", "passed", "failed", "aborted", "inconclusive"),
    Index("ix_gameday_run_created_at", "created_at"),
    schema="ops",
)


def _outbox_columns() -> list[Column[Any]]:
    """The record as Debezium's event router and the relay both read it: no NULL, raw payload."""
    return [
        Column("event_id", Uuid, nullable=False),
        text_column("aggregate_type"),
        text_column("aggregate_id"),
        integer_column("aggregate_version", default=0),
        text_column("topic"),
        text_column("ce_id"),
        text_column("ce_source"),
        text_column("ce_type"),
        text_column("ce_specversion", default="1.0"),
        text_column("ce_time"),
        text_column("ce_correlationid"),
        text_column("ce_causationid"),
        text_column("traceparent"),
        text_column("tracestate", default=""),
        text_column("content_type", default="application/json"),
        Column("payload", LargeBinary, nullable=False),
        Column("shard", SmallInteger, nullable=False),
        integer_column("attempts", default=0),
        time_column("created_at", now=True),
    ]


outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    *_outbox_columns(),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("event_id"),
    schema="ops",
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0.01",
        "autovacuum_vacuum_threshold": "5000",
    },
)

outbox_parked = Table(
    "outbox_parked",
    metadata,
    Column("id", BigInteger, nullable=False),
    *_outbox_columns(),
    text_column("error"),
    time_column("parked_at", now=True),
    PrimaryKeyConstraint("id"),
    schema="ops",
)

relay_lease = Table(
    "relay_lease",
    metadata,
    Column("shard", SmallInteger, nullable=False),
    text_column("owner", default=""),
    integer_column("epoch", default=0, big=True),
    time_column("expires_at"),
    PrimaryKeyConstraint("shard"),
    schema="ops",
    postgresql_with={"fillfactor": 50},
)

relay_member = Table(
    "relay_member",
    metadata,
    text_column("worker_id"),
    time_column("expires_at"),
    PrimaryKeyConstraint("worker_id"),
    schema="ops",
    postgresql_with={"fillfactor": 50},
)
