"""One PostgreSQL login per role, each with what it needs and no more.

The logins are named `symphony_<role>`. They get no password here: a lab trusts its loopback, an
operator sets passwords. Applying the grants again changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.db.schema import SCHEMAS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

READ, APPEND, WRITE, ALL = (
    "select",
    "select, insert",
    "select, insert, update",
    "select, insert, update, delete",
)

_WORKER = {"ops.worker_run": WRITE, "ops.killer_journal": ALL, "ops.chaos_switch": READ}
_CONSUMER = {
    **_WORKER,
    "ops.inbox": WRITE,
    "ops.dead_letter": APPEND,
    "ops.flood": WRITE,
    "ops.rewind": WRITE,
}

MONITORS = ("slo",)
"""Roles that may see what other logins' connections do."""

GRANTS: dict[str, dict[str, str]] = {
    "web": {
        **_WORKER,
        "catalog.product": WRITE,
        "orders.orders": WRITE,  # never updated, but only who may update may lock: cancels do
        "orders.order_item": APPEND,
        "orders.order_history": APPEND,
        "orders.idempotency": ALL,
        "orders.saga": READ,
        "payments.payment_attempt": READ,
        "inventory.stock": WRITE,
        "inventory.reservation": READ,
        "inventory.reservation_line": READ,
        "shipping.shipment": READ,
        "ops.inbox": READ,
        "orders.fraud_review": WRITE,
        "notifications.notification": READ,
        "slo.pane": READ,
        "slo.progress": READ,
        "ops.dead_letter": WRITE,
        "ops.dead_letter_job": WRITE,
        "ops.flood": WRITE,
        "ops.rewind": WRITE,
        "ops.audit_log": APPEND,
        "ops.chaos_switch": WRITE,
        "ops.gameday_run": WRITE,
        "ops.outbox": APPEND,
        "ops.outbox_parked": READ,
        "ops.relay_lease": READ,
    },
    "relay": {
        "ops.outbox": ALL,
        "ops.outbox_parked": WRITE,
        "ops.relay_lease": WRITE,
        "ops.relay_member": ALL,
        **_WORKER,
    },
    "orchestrator": {
        **_CONSUMER,
        "orders.order_history": APPEND,
        "orders.saga": WRITE,
    },
    "payment": {
        **_CONSUMER,
        "payments.payment_attempt": WRITE,
        "ops.dead_letter_job": APPEND,
        "ops.audit_log": APPEND,
    },
    "inventory": {
        **_CONSUMER,
        "catalog.product": READ,
        "inventory.stock": WRITE,
        "inventory.reservation": WRITE,
        "inventory.reservation_line": APPEND,
    },
    "shipping": {**_CONSUMER, "shipping.shipment": WRITE},
    "notification": {**_CONSUMER, "notifications.notification": WRITE},
    "slo": {
        **_CONSUMER,
        "slo.pane": ALL,
        "slo.progress": WRITE,
        "orders.saga": READ,
        "inventory.stock": READ,
        "ops.outbox": READ,
        "ops.outbox_parked": READ,
        "ops.gameday_run": READ,
    },
    "gameday": {
        **_WORKER,
        "ops.gameday_run": ALL,
        "ops.audit_log": APPEND,
        "ops.chaos_switch": WRITE,
    },
    "probe": dict(_CONSUMER),
    "dlq": {
        **_CONSUMER,
        "orders.saga": READ,
        "ops.dead_letter": ALL,
        "ops.dead_letter_job": ALL,
        "ops.audit_log": APPEND,
    },
}


def login_of(role: str) -> str:
    """Return the PostgreSQL login of a role (`payment-canary` shares the login of `payment`)."""
    name = role.removesuffix("-canary")
    if name not in GRANTS:
        raise KeyError(f"no PostgreSQL login is declared for role {role!r}")
    return f"symphony_{name}"


def dsn_of(dsn: str, role: str) -> str:
    """Return `dsn` with the role's login as its user; a password in it is kept."""
    url = make_url(dsn).set(username=login_of(role))
    return url.render_as_string(hide_password=False)


def apply_grants(connection: Connection) -> None:
    """Create the logins that are missing and set their grants to exactly what stands here."""
    schemas = ", ".join(SCHEMAS)
    for role, tables in GRANTS.items():
        login = login_of(role)
        connection.execute(text(_CREATE_LOGIN.format(login=login)))
        connection.execute(text(f"revoke all on all tables in schema {schemas} from {login}"))
        connection.execute(text(f"grant usage on schema {schemas} to {login}"))
        for table, rights in tables.items():
            connection.execute(text(f"grant {rights} on {table} to {login}"))
    for role in MONITORS:
        connection.execute(text(_LET_MONITOR.format(login=login_of(role))))


# Logins belong to the cluster: another database's migration may create one at the same time.
_CREATE_LOGIN = """
do $$ begin
  if not exists (select from pg_roles where rolname = '{login}') then
    create role {login} login;
  end if;
exception when duplicate_object or unique_violation then null;
end $$
"""

# Only a superuser, or who administers that role, may grant it; without it the census does not know
# how old other logins' transactions are, and says so.
_LET_MONITOR = """
do $$ begin
  grant pg_read_all_stats to {login};
exception when insufficient_privilege then null;
end $$
"""
