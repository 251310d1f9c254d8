"""What role `slo` reports of the whole platform: Kafka's groups and PostgreSQL's books.

Every worker of the role reports the same, so rules take the maximum. What could not be read for
longer than `slo_stale_after_s` is absent: a gauge that kept its last value would look healthy.
"""

from __future__ import annotations

from app.observability.families import counter, gauge

CENSUS_SOURCES = ("kafka", "postgres")
STOCK_LEVELS = ("low", "critical")
CONNECTION_STATES = ("active", "idle", "idle_in_transaction", "other")

CENSUS_AGE = gauge(
    "symphony_census_age_seconds",
    "Age of what the census says, by what was read: kafka, postgres; absent before the first.",
    "source",
)
CENSUS_ROUNDS = counter(
    "symphony_census_rounds_total",
    "Rounds of the census by what was read and the outcome: ok, failed.",
    "source",
    "outcome",
)

# Kafka, asked by an administrator: also when no worker of a role lives.
CONSUMER_LAG = gauge(
    "symphony_consumer_lag_records",
    "Records of a topic that the group of a role has not committed.",
    "role",
    "topic",
)
CONSUMER_LAG_AGE = gauge(
    "symphony_consumer_lag_seconds",
    "Age of the oldest record that the group of a role has not committed; 0 without lag.",
    "role",
    "topic",
)
CONSUMER_MEMBERS = gauge(
    "symphony_consumer_members",
    "Members of the group of a role; an optional role that never ran has none and is absent.",
    "role",
)

# Sagas.
SAGA_ACTIVE = gauge(
    "symphony_saga_active", "Sagas that are not over, by state; 0 for a state without any.", "state"
)
SAGA_OLDEST_AGE = gauge(
    "symphony_saga_oldest_age_seconds",
    "Time since the creation of the oldest saga in a state; absent for a state without any.",
    "state",
)
SAGA_STUCK = gauge(
    "symphony_saga_stuck",
    "Sagas whose deadline passed more than 30 s ago and that no operator has to act on.",
)

# Dead letters.
DLQ_DEPTH = gauge(
    "symphony_dlq_depth", "Dead letters that nobody has acted on, by dead-letter topic.", "topic"
)
DLQ_OLDEST_AGE = gauge(
    "symphony_dlq_oldest_age_seconds",
    "Age of the oldest dead letter that nobody has acted on; 0 without any.",
)

# Outbox.
OUTBOX_PENDING = gauge("symphony_outbox_pending_rows", "Outbox rows not yet published.")
OUTBOX_OLDEST_AGE = gauge(
    "symphony_outbox_oldest_age_seconds", "Age of the oldest unpublished outbox row; 0 when empty."
)
OUTBOX_PARKED = gauge(
    "symphony_outbox_parked_rows", "Outbox rows that Kafka refuses; an operator must act."
)

# PostgreSQL.
POSTGRES_CONNECTIONS = gauge(
    "symphony_postgres_connections",
    f"Connections to the database by state: {', '.join(CONNECTION_STATES)}.",
    "state",
)
POSTGRES_CONNECTIONS_MAX = gauge(
    "symphony_postgres_connections_max", "Connections that the server allows (max_connections)."
)
POSTGRES_OLDEST_TRANSACTION = gauge(
    "symphony_postgres_transaction_oldest_seconds",
    "Age of the oldest open transaction of the database; 0 without any.",
)
POSTGRES_BYTES = gauge("symphony_postgres_database_bytes", "Size of the database on disk.")

# Stock.
STOCK_LOW = gauge(
    "symphony_stock_low_products",
    "Products whose stock fell: low (under 50 left) or critical (under 10); one of which there"
    " never were so many does not count.",
    "level",
)
