"""The migrated database: it is what the metadata says, its constraints hold, its logins are few."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.db.grants import GRANTS, dsn_of, login_of
from app.db.migrate import alembic_config, connect, seed, upgrade
from app.db.schema import SCHEMAS, metadata

if TYPE_CHECKING:
    from chaos.lab.postgres import Postgres

pytestmark = pytest.mark.integration


def run(dsn: str, sql: str, **params: Any) -> Any:
    with connect(dsn) as connection:
        return connection.execute(text(sql), params)


def test_migrations_create_what_the_metadata_declares(database: str) -> None:
    """A migrated database differs in nothing from app.db.schema."""
    with connect(database) as connection:
        options = {"include_schemas": True, "version_table_schema": "ops"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_upgrade_at_the_same_time_and_again_is_harmless(postgres: Postgres) -> None:
    """Three concurrent upgrades of an empty database and a fourth afterwards all succeed."""
    name = f"upgrade_{uuid.uuid4().hex}"
    run_in_autocommit(postgres, f"create database {name}")
    dsn = postgres.dsn_of(name)
    errors: list[BaseException] = []

    def one() -> None:
        try:
            upgrade(dsn)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    upgrade(dsn)
    assert errors == []
    run_in_autocommit(postgres, f"drop database {name}")


def test_an_upgrade_moves_the_reasons_of_orders_into_their_sagas(postgres: Postgres) -> None:
    """An order that ended before revision 0004 keeps its reason; a running one has none."""
    name = f"upgrade_{uuid.uuid4().hex}"
    run_in_autocommit(postgres, f"create database {name}")
    dsn = postgres.dsn_of(name)
    with connect(dsn) as connection:
        for schema in SCHEMAS:
            connection.execute(text(f"create schema {schema}"))
        command.upgrade(alembic_config(connection), "0003")
    reasons = {str(uuid.uuid4()): reason for reason in ("out_of_stock", "")}
    for order, reason in reasons.items():
        run(dsn, "insert into orders.orders values (:id, 'c', 'CANCELLED', :reason, 3, 1, 'EUR',"
            " null, false, now(), now())", id=order, reason=reason)  # fmt: skip
        run(dsn, "insert into orders.saga values (:id, 0, 3, 'CANCELLED', true, '', null, now(),"
            " now())", id=order)  # fmt: skip
    upgrade(dsn)
    with connect(dsn) as connection:
        found = connection.execute(text("select order_id::text, reason from orders.saga")).all()
    assert dict(found) == reasons
    run_in_autocommit(postgres, f"drop database {name}")


def test_an_upgrade_keeps_what_was_told_and_what_is_unsent(postgres: Postgres) -> None:
    """A notification of revision 0006 has no occurrence; a tick not known to be published is found
    where the new index looks."""
    name = f"upgrade_{uuid.uuid4().hex}"
    run_in_autocommit(postgres, f"create database {name}")
    dsn = postgres.dsn_of(name)
    with connect(dsn) as connection:
        for schema in SCHEMAS:
            connection.execute(text(f"create schema {schema}"))
        command.upgrade(alembic_config(connection), "0006")
    run(dsn, "insert into notifications.notification values (:id, 'MUTE', 'stock_low', :id, 'SENT',"
        " 'text', now(), now())", id=uuid.uuid4())  # fmt: skip
    run(dsn, "insert into ops.inbox select 'slo', gen_random_uuid(), status, 0, '', 'tick', 0, 0"
        " from generate_series(0, 4) status")  # fmt: skip
    upgrade(dsn)
    with connect(dsn) as connection:
        told = connection.execute(text("select occurrence from notifications.notification")).all()
        ticked = connection.execute(text("select status from ops.inbox where ticked")).all()
    assert (told, ticked) == ([("",)], [(4,)])
    run_in_autocommit(postgres, f"drop database {name}")


TWICE = """
insert into notifications.notification (id, subject, kind, event_id, status, text, created_at)
select gen_random_uuid(), gen_random_uuid(), 'shipped', gen_random_uuid(), 'INTENT',
       repeat('x', 60), now() from generate_series(1, 200);
update notifications.notification set status = 'SENT', sent_at = now();
insert into ops.inbox select 'notification', gen_random_uuid(), 1, 0, '', 'topic', 0, 0
  from generate_series(1, 10);
update ops.inbox set status = 0, at = now()
"""
UPDATED = """
select relname, n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables
 where n_tup_upd > 0 order by relname
"""


def test_what_is_recorded_twice_is_updated_within_its_page(database: str) -> None:
    """No index stands in the way of a heap-only update, and a batch of notifications has room for
    it: the second row version costs no index entry."""
    with connect(database) as connection:
        connection.execute(text(TWICE))
        updates = connection.execute(text(UPDATED)).all()
    assert updates == [("inbox", 10, 10), ("notification", 200, 200)]


def run_in_autocommit(postgres: Postgres, sql: str) -> None:
    with connect(postgres.dsn_of("postgres")) as connection:
        connection.execute(text("commit"))
        connection.execute(text(sql))


def test_seed_is_idempotent_and_keeps_sold_stock(database: str) -> None:
    """Seeding twice adds nothing and never refills stock; one product is scarce, one sold out."""
    assert seed(database) >= 13
    run(database, "update inventory.stock set available = 1, held = 4 where sku = 'BASS'")
    assert seed(database) == 0
    with connect(database) as connection:
        rows = connection.execute(text("select sku, available from inventory.stock")).all()
    stock = dict(rows)
    assert (stock["BASS"], stock["HARP"]) == (1, 0)
    assert "AMOUNT" not in stock


@pytest.mark.parametrize(
    "sql",
    [
        "update inventory.stock set available = -1, held = 6 where sku = 'BASS'",
        "update inventory.stock set available = available - 1 where sku = 'BASS'",
        "update inventory.stock set available = 6, held = -1 where sku = 'BASS'",
    ],
)
def test_stock_cannot_be_oversold_or_leak(database: str, sql: str) -> None:
    """Negative stock, or units that appear or vanish, are refused by the database itself."""
    seed(database)
    with pytest.raises(IntegrityError):
        run(database, sql)


ATTEMPT = (
    "insert into payments.payment_attempt"
    " (order_id, attempt, status, version, charge_id, amount_minor, currency)"
    " values (:order, :attempt, :status, 1, :charge, 1, 'EUR')"
)


@pytest.mark.parametrize(
    ("first", "second"),
    [((1, "DECLINED"), (1, "INTENT")), ((1, "CHARGED"), (2, "INTENT"))],
)
def test_an_order_has_one_live_charge(
    database: str, first: tuple[int, str], second: tuple[int, str]
) -> None:
    """A second charge of the same attempt, or beside a live one, is refused by the database."""
    order = uuid.uuid4()
    attempt, status = first
    run(database, ATTEMPT, order=order, attempt=attempt, status=status, charge=uuid.uuid4())
    attempt, status = second
    with pytest.raises(IntegrityError):
        run(database, ATTEMPT, order=order, attempt=attempt, status=status, charge=uuid.uuid4())


def test_each_login_may_do_its_own_and_no_more(database: str) -> None:
    """Every role's login exists; payment may not touch stock, relay may not read orders."""
    with connect(database) as connection:
        known = set(connection.execute(text("select rolname from pg_roles")).scalars())
    assert {login_of(role) for role in GRANTS} <= known
    for role, table, allowed in [
        ("payment", "inventory.stock", False),
        ("payment", "payments.payment_attempt", True),
        ("relay", "orders.orders", False),
        ("relay", "ops.outbox", True),
        ("orchestrator", "orders.orders", False),
        ("orchestrator", "orders.order_item", False),
        ("orchestrator", "orders.saga", True),
    ]:
        login = dsn_of(database, role)
        if allowed:
            run(login, f"select count(*) from {table}")
            continue
        with pytest.raises(DBAPIError, match="permission denied"):
            run(login, f"select count(*) from {table}")
    run(dsn_of(database, "web"), "select from orders.orders for no key update")
