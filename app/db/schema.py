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
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMAS = ("catalog", "orders", "payments", "inventory", "shipping", "ops")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, *, default: str | None = None) -> Column[str]:
    quoted = None if default is None else text(f"'{default}'")
    return Column(name, Text, nullable=False, server_default=quoted)


def _time(name: str, *, now: bool = False, nullable: bool = False) -> Column[Any]:
    default = text("now()") if now else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


def _integer(name: str, *, default: int | None = None, big: bool = False) -> Column[int]:
    kind = BigInteger if big else Integer
    quoted = None if default is None else text(str(default))
    return Column(name, kind, nullable=False, server_default=quoted)


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=column)


product = Table(
    "product",
    metadata,
    _text("sku"),
    _text("name"),
    _text("category"),
    _integer("price_minor", big=True),
    _text("currency"),
    Column("tracked", Boolean, nullable=False, server_default=text("true")),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    _time("created_at", now=True),
    PrimaryKeyConstraint("sku"),
    CheckConstraint("price_minor >= 0", name="price"),
    Index("ix_product_category_sku", "category", "sku"),
    schema="catalog",
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", Uuid, nullable=False),
    _text("customer_id"),
    _text("status"),
    _text("reason", default=""),
    _integer("saga_version", default=0),
    _integer("total_minor", big=True),
    _text("currency"),
    Column("shipping_address", Text),
    Column("review", Boolean, nullable=False, server_default=text("false")),
    _time("created_at"),
    _time("updated_at"),
    PrimaryKeyConstraint("order_id"),
    CheckConstraint("total_minor >= 0", name="total"),
    Index("ix_orders_created_at_order_id", "created_at", "order_id"),
    schema="orders",
    postgresql_with={"fillfactor": 80},
)

order_item = Table(
    "order_item",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("line", SmallInteger, nullable=False),
    _text("product_id"),
    _integer("quantity"),
    _integer("unit_price_minor", big=True),
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
    _integer("saga_version"),
    _text("event", default=""),
    _text("status"),
    _text("reason", default=""),
    _text("cause_id", default=""),
    _time("at"),
    PrimaryKeyConstraint("id"),
    Index("ix_order_history_order_id_id", "order_id", "id"),
    schema="orders",
)

# `body` is the packed saga of the domain; the columns beside it are copies for guards and scans.
# `terminal`: final, and nothing is outstanding any more (the domain's `settled`).
# Only `partition` and `terminal` are indexed, so that a transition stays a heap-only update.
saga = Table(
    "saga",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("partition", SmallInteger, nullable=False),
    _integer("version"),
    _text("state"),
    Column("terminal", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _time("next_due", nullable=True),
    _time("created_at"),
    _time("updated_at"),
    PrimaryKeyConstraint("order_id"),
    CheckConstraint("version >= 1", name="version"),
    Index("ix_saga_running", "partition", postgresql_where=text("not terminal")),
    schema="orders",
    postgresql_with={"fillfactor": 70},
)

idempotency = Table(
    "idempotency",
    metadata,
    _text("key"),
    Column("body_hash", LargeBinary, nullable=False),
    Column("order_id", Uuid, nullable=False),
    Column("reply", LargeBinary, nullable=False),
    _time("created_at"),
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
    _text("status"),
    _integer("version"),
    Column("charge_id", Uuid, nullable=False),
    _integer("amount_minor", big=True),
    _text("currency"),
    _text("payment_id", default=""),
    _text("refund_id", default=""),
    _text("reason", default=""),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    PrimaryKeyConstraint("order_id", "attempt"),
    UniqueConstraint("charge_id"),
    CheckConstraint("amount_minor >= 0", name="amount"),
    _one_of(
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
    _text("sku"),
    _integer("available"),
    _integer("held", default=0),
    _integer("consumed", default=0, big=True),
    _integer("restocked", big=True),
    _time("updated_at", now=True),
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
    _text("status"),
    _integer("version"),
    _text("reason", default=""),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    PrimaryKeyConstraint("order_id"),
    _one_of("status", "HELD", "OUT_OF_STOCK", "EXPIRED", "RELEASED", "COMMITTED"),
    schema="inventory",
    postgresql_with={"fillfactor": 80},
)

# Written once with a HELD reservation and never changed; the reservation's status says the rest.
reservation_line = Table(
    "reservation_line",
    metadata,
    Column("order_id", Uuid, nullable=False),
    _text("sku"),
    _integer("qty"),
    PrimaryKeyConstraint("order_id", "sku"),
    ForeignKeyConstraint(["order_id"], ["inventory.reservation.order_id"]),
    CheckConstraint("qty > 0", name="qty"),
    schema="inventory",
)

shipment = Table(
    "shipment",
    metadata,
    Column("order_id", Uuid, nullable=False),
    _text("status"),
    _integer("version"),
    _text("shipment_id", default=""),
    Column("address", Text),
    _text("reason", default=""),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    PrimaryKeyConstraint("order_id"),
    _one_of("status", "SHIPPED", "REFUSED", "EXPIRED", "CANCELLED"),
    schema="shipping",
)

# `status`: app.db.inbox.Status. `outputs`: the packed records to publish again on a repeat.
inbox = Table(
    "inbox",
    metadata,
    _text("consumer"),
    Column("event_id", Uuid, nullable=False),
    Column("status", SmallInteger, nullable=False),
    _integer("attempt"),
    Column("outputs", LargeBinary, nullable=False),
    _text("topic"),
    _integer("partition"),
    _integer("offset", big=True),
    _time("at", now=True),
    PrimaryKeyConstraint("consumer", "event_id"),
    Index("ix_inbox_at", "at", postgresql_using="brin"),
    # status 4 is TICKED: what a dead worker may have left unpublished.
    Index("ix_inbox_ticked", "consumer", "partition", postgresql_where=text("status = 4")),
    schema="ops",
)

# `counted`: the run ended in a way that counts against the records it was working on.
worker_run = Table(
    "worker_run",
    metadata,
    _text("incarnation"),
    _text("worker_id"),
    _text("role"),
    _time("started_at"),
    _time("ended_at", nullable=True),
    _text("reason", default=""),
    Column("counted", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("incarnation"),
    Index("ix_worker_run_open", "worker_id", postgresql_where=text("ended_at is null")),
    Index("ix_worker_run_counted", "role", "ended_at", postgresql_where=text("counted")),
    schema="ops",
)

killer_journal = Table(
    "killer_journal",
    metadata,
    _text("consumer"),
    _text("topic"),
    _integer("partition"),
    _text("incarnation"),
    _integer("first_offset", big=True),
    _integer("last_offset", big=True),
    PrimaryKeyConstraint("consumer", "topic", "partition", "incarnation"),
    schema="ops",
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", Uuid, nullable=False),
    _text("topic"),
    _integer("partition"),
    _integer("offset", big=True),
    _text("origin_topic"),
    _integer("origin_partition"),
    _integer("origin_offset", big=True),
    _text("consumer"),
    _text("event_id", default=""),
    _text("error_class"),
    _text("error_message"),
    _text("fingerprint"),
    Column("headers", JSONB, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    _time("first_failed_at"),
    _time("at"),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("topic", "partition", "offset"),
    Index("ix_dead_letter_at", "at"),
    Index("ix_dead_letter_fingerprint", "fingerprint"),
    schema="ops",
)


def _outbox_columns() -> list[Column[Any]]:
    """The record as Debezium's event router and the relay both read it: no NULL, raw payload."""
    return [
        Column("event_id", Uuid, nullable=False),
        _text("aggregate_type"),
        _text("aggregate_id"),
        _integer("aggregate_version", default=0),
        _text("topic"),
        _text("ce_id"),
        _text("ce_source"),
        _text("ce_type"),
        _text("ce_specversion", default="1.0"),
        _text("ce_time"),
        _text("ce_correlationid"),
        _text("ce_causationid"),
        _text("traceparent"),
        _text("content_type", default="application/json"),
        Column("payload", LargeBinary, nullable=False),
        Column("shard", SmallInteger, nullable=False),
        _integer("attempts", default=0),
        _time("created_at", now=True),
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
    _text("error"),
    _time("parked_at", now=True),
    PrimaryKeyConstraint("id"),
    schema="ops",
)

relay_lease = Table(
    "relay_lease",
    metadata,
    Column("shard", SmallInteger, nullable=False),
    _text("owner", default=""),
    _integer("epoch", default=0, big=True),
    _time("expires_at"),
    PrimaryKeyConstraint("shard"),
    schema="ops",
    postgresql_with={"fillfactor": 50},
)

relay_member = Table(
    "relay_member",
    metadata,
    _text("worker_id"),
    _time("expires_at"),
    PrimaryKeyConstraint("worker_id"),
    schema="ops",
    postgresql_with={"fillfactor": 50},
)
