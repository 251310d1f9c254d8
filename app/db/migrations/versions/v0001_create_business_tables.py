"""Create the tables of the business."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ = sa.Column
_TIME = sa.DateTime(timezone=True)
_NOW = sa.text("now()")


def upgrade() -> None:
    """Apply this revision."""
    _catalog_product()
    _orders_idempotency()
    _orders_order_history()
    _orders()
    _orders_saga()
    _orders_order_item()
    _payments_payment_attempt()
    _inventory_reservation()
    _inventory_stock()
    _inventory_reservation_line()
    _shipping_shipment()


def _catalog_product() -> None:
    op.create_table(
        "product",
        _("sku", sa.Text(), nullable=False),
        _("name", sa.Text(), nullable=False),
        _("category", sa.Text(), nullable=False),
        _("price_minor", sa.BigInteger(), nullable=False),
        _("currency", sa.Text(), nullable=False),
        _("tracked", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        _("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        _("created_at", _TIME, server_default=_NOW, nullable=False),
        sa.CheckConstraint("price_minor >= 0", name=op.f("ck_product_price")),
        sa.PrimaryKeyConstraint("sku", name=op.f("pk_product")),
        schema="catalog",
    )
    op.create_index(
        "ix_product_category_sku", "product", ["category", "sku"], unique=False, schema="catalog"
    )


def _orders_idempotency() -> None:
    op.create_table(
        "idempotency",
        _("key", sa.Text(), nullable=False),
        _("body_hash", sa.LargeBinary(), nullable=False),
        _("order_id", sa.Uuid(), nullable=False),
        _("reply", sa.LargeBinary(), nullable=False),
        _("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency")),
        schema="orders",
    )
    op.create_index(
        "ix_idempotency_created_at",
        "idempotency",
        ["created_at"],
        unique=False,
        schema="orders",
        postgresql_using="brin",
    )


def _orders_order_history() -> None:
    op.create_table(
        "order_history",
        _("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _("order_id", sa.Uuid(), nullable=False),
        _("saga_version", sa.Integer(), nullable=False),
        _("event", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("status", sa.Text(), nullable=False),
        _("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("cause_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_history")),
        schema="orders",
    )
    op.create_index(
        "ix_order_history_order_id_id",
        "order_history",
        ["order_id", "id"],
        unique=False,
        schema="orders",
    )


def _orders() -> None:
    op.create_table(
        "orders",
        _("order_id", sa.Uuid(), nullable=False),
        _("customer_id", sa.Text(), nullable=False),
        _("status", sa.Text(), nullable=False),
        _("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("saga_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _("total_minor", sa.BigInteger(), nullable=False),
        _("currency", sa.Text(), nullable=False),
        _("shipping_address", sa.Text(), nullable=True),
        _("review", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _("created_at", _TIME, nullable=False),
        _("updated_at", _TIME, nullable=False),
        sa.CheckConstraint("total_minor >= 0", name=op.f("ck_orders_total")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
        schema="orders",
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(
        "ix_orders_created_at_order_id",
        "orders",
        ["created_at", "order_id"],
        unique=False,
        schema="orders",
    )


def _orders_saga() -> None:
    op.create_table(
        "saga",
        _("order_id", sa.Uuid(), nullable=False),
        _("partition", sa.SmallInteger(), nullable=False),
        _("version", sa.Integer(), nullable=False),
        _("state", sa.Text(), nullable=False),
        _("terminal", sa.Boolean(), nullable=False),
        _("body", sa.LargeBinary(), nullable=False),
        _("next_due", _TIME, nullable=True),
        _("created_at", _TIME, nullable=False),
        _("updated_at", _TIME, nullable=False),
        sa.CheckConstraint("version >= 1", name=op.f("ck_saga_version")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_saga")),
        schema="orders",
        postgresql_with={"fillfactor": 70},
    )
    op.create_index(
        "ix_saga_running",
        "saga",
        ["partition"],
        unique=False,
        schema="orders",
        postgresql_where=sa.text("not terminal"),
    )


def _orders_order_item() -> None:
    op.create_table(
        "order_item",
        _("order_id", sa.Uuid(), nullable=False),
        _("line", sa.SmallInteger(), nullable=False),
        _("product_id", sa.Text(), nullable=False),
        _("quantity", sa.Integer(), nullable=False),
        _("unit_price_minor", sa.BigInteger(), nullable=False),
        _("tracked", sa.Boolean(), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_order_item_quantity")),
        sa.CheckConstraint("unit_price_minor >= 0", name=op.f("ck_order_item_unit_price")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.orders.order_id"], name=op.f("fk_order_item_order_id")
        ),
        sa.PrimaryKeyConstraint("order_id", "line", name=op.f("pk_order_item")),
        schema="orders",
    )


def _payments_payment_attempt() -> None:
    op.create_table(
        "payment_attempt",
        _("order_id", sa.Uuid(), nullable=False),
        _("attempt", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        _("status", sa.Text(), nullable=False),
        _("version", sa.Integer(), nullable=False),
        _("charge_id", sa.Uuid(), nullable=False),
        _("amount_minor", sa.BigInteger(), nullable=False),
        _("currency", sa.Text(), nullable=False),
        _("payment_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("refund_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("created_at", _TIME, server_default=_NOW, nullable=False),
        _("updated_at", _TIME, server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "status in ('INTENT', 'CHARGED', 'DECLINED', 'EXPIRED',"
            " 'CANCELLING', 'REFUNDING', 'REFUNDED', 'CANCELLED')",
            name=op.f("ck_payment_attempt_status"),
        ),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("ck_payment_attempt_amount")),
        sa.PrimaryKeyConstraint("order_id", "attempt", name=op.f("pk_payment_attempt")),
        sa.UniqueConstraint("charge_id", name=op.f("uq_payment_attempt_charge_id")),
        schema="payments",
        postgresql_with={"fillfactor": 80},
    )
    op.create_index(
        "uq_payment_attempt_live",
        "payment_attempt",
        ["order_id"],
        unique=True,
        schema="payments",
        postgresql_where=sa.text("status in ('INTENT', 'CHARGED', 'CANCELLING', 'REFUNDING')"),
    )


def _inventory_reservation() -> None:
    op.create_table(
        "reservation",
        _("order_id", sa.Uuid(), nullable=False),
        _("status", sa.Text(), nullable=False),
        _("version", sa.Integer(), nullable=False),
        _("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("created_at", _TIME, server_default=_NOW, nullable=False),
        _("updated_at", _TIME, server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "status in ('HELD', 'OUT_OF_STOCK', 'EXPIRED', 'RELEASED', 'COMMITTED')",
            name=op.f("ck_reservation_status"),
        ),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_reservation")),
        schema="inventory",
        postgresql_with={"fillfactor": 80},
    )


def _inventory_stock() -> None:
    op.create_table(
        "stock",
        _("sku", sa.Text(), nullable=False),
        _("available", sa.Integer(), nullable=False),
        _("held", sa.Integer(), server_default=sa.text("0"), nullable=False),
        _("consumed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        _("restocked", sa.BigInteger(), nullable=False),
        _("updated_at", _TIME, server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "available + held + consumed = restocked", name=op.f("ck_stock_conserved")
        ),
        sa.CheckConstraint("available >= 0", name=op.f("ck_stock_available")),
        sa.CheckConstraint("consumed >= 0", name=op.f("ck_stock_consumed")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_stock_held")),
        sa.PrimaryKeyConstraint("sku", name=op.f("pk_stock")),
        schema="inventory",
        postgresql_with={"fillfactor": 50},
    )


def _inventory_reservation_line() -> None:
    op.create_table(
        "reservation_line",
        _("order_id", sa.Uuid(), nullable=False),
        _("sku", sa.Text(), nullable=False),
        _("qty", sa.Integer(), nullable=False),
        sa.CheckConstraint("qty > 0", name=op.f("ck_reservation_line_qty")),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["inventory.reservation.order_id"],
            name=op.f("fk_reservation_line_order_id"),
        ),
        sa.PrimaryKeyConstraint("order_id", "sku", name=op.f("pk_reservation_line")),
        schema="inventory",
    )


def _shipping_shipment() -> None:
    op.create_table(
        "shipment",
        _("order_id", sa.Uuid(), nullable=False),
        _("status", sa.Text(), nullable=False),
        _("version", sa.Integer(), nullable=False),
        _("shipment_id", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("address", sa.Text(), nullable=True),
        _("reason", sa.Text(), server_default=sa.text("''"), nullable=False),
        _("created_at", _TIME, server_default=_NOW, nullable=False),
        _("updated_at", _TIME, server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "status in ('SHIPPED', 'REFUSED', 'EXPIRED', 'CANCELLED')",
            name=op.f("ck_shipment_status"),
        ),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_shipment")),
        schema="shipping",
    )
