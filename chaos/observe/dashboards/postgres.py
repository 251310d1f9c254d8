"""PostgreSQL, from the census and from the workers' side."""

from __future__ import annotations

from chaos.observe.dashboards.limits import CONNECTIONS, DATABASE_S
from chaos.observe.panels import RATE, Dashboard, Panel, Query, Row
from chaos.observe.promql import quantile

POSTGRES = Dashboard(
    "postgres",
    "PostgreSQL",
    "Connections, transactions, size; and what workers wait for.",
    (
        Row(
            "The server",
            (
                Panel(
                    "Connections",
                    "By state.",
                    "short",
                    (Query("max by (state) (symphony_postgres_connections)", "{{state}}"),),
                    stacked=True,
                ),
                Panel(
                    "Connections in use",
                    "Share of max_connections; over the line DatabaseConnections fires.",
                    "percentunit",
                    (
                        Query(
                            "sum(max by (state) (symphony_postgres_connections))"
                            " / max(symphony_postgres_connections_max)",
                            "in use",
                        ),
                    ),
                    limit=CONNECTIONS,
                ),
                Panel(
                    "Oldest transaction",
                    "Age of the oldest open transaction.",
                    "s",
                    (Query("max(symphony_postgres_transaction_oldest_seconds)", "oldest"),),
                ),
                Panel(
                    "Size",
                    "Of the database on disk.",
                    "bytes",
                    (Query("max(symphony_postgres_database_bytes)", "size"),),
                ),
                Panel(
                    "Stock that runs low",
                    "Products by level: low is fewer than 50, critical fewer than 10.",
                    "short",
                    (Query("max by (level) (symphony_stock_low_products)", "{{level}}"),),
                ),
                Panel(
                    "Age of the census",
                    "How old the figures of this row are.",
                    "s",
                    (Query("max by (source) (symphony_census_age_seconds)", "{{source}}"),),
                ),
                Panel(
                    "Rounds of the census",
                    "Per second by source and outcome; after a failed one its figures are absent.",
                    "ops",
                    (
                        Query(
                            "sum by (source, outcome)"
                            f" (rate(symphony_census_rounds_total[{RATE}]))",
                            "{{source}} {{outcome}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "The workers",
            (
                Panel(
                    "Round trips, p95",
                    "From sending statements to their answer, by role; over the line DatabaseSlow"
                    " fires.",
                    "s",
                    (Query("symphony:db_round_trip_seconds:p95_rate5m", "{{role}}"),),
                    limit=DATABASE_S,
                ),
                Panel(
                    "Waiting for a connection, p95",
                    "Of the pool, by worker.",
                    "s",
                    (
                        Query(
                            quantile(0.95, "symphony_db_acquire_seconds", RATE, "worker"),
                            "{{worker}}",
                        ),
                    ),
                ),
                Panel(
                    "Pool",
                    "Connections in use by worker.",
                    "short",
                    (
                        Query(
                            'max by (worker) (symphony_db_pool_connections{state="busy"})',
                            "{{worker}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Errors",
                    "Transactions per second that ended in an error of the database's.",
                    "ops",
                    (
                        Query(
                            f"sum by (role, kind) (rate(symphony_db_errors_total[{RATE}]))",
                            "{{role}} {{kind}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
