"""Metrics that rules and dashboards ask for and that the catalogue does not have yet."""

from __future__ import annotations

from collections.abc import Mapping

PENDING: Mapping[str, tuple[str, ...]] = {
    "symphony_slo_objective_ratio": ("slo",),
    "symphony_slo_error_ratio": ("slo", "window"),
    "symphony_slo_burn_rate": ("slo", "window"),
    "symphony_slo_budget_left_ratio": ("slo",),
    "symphony_slo_latency_seconds": ("quantile", "window"),
    "symphony_slo_events_total": ("slo", "outcome"),
    "symphony_slo_odd_events_total": ("kind",),
    "symphony_slo_data_age_seconds": (),
    "symphony_consumer_lag_records": ("role", "topic"),
    "symphony_consumer_lag_seconds": ("role", "topic"),
    "symphony_consumer_members": ("role",),
    "symphony_saga_active": ("state",),
    "symphony_saga_oldest_age_seconds": ("state",),
    "symphony_saga_stuck": (),
    "symphony_dlq_depth": ("topic",),
    "symphony_dlq_oldest_age_seconds": (),
    "symphony_outbox_pending_rows": (),
    "symphony_outbox_oldest_age_seconds": (),
    "symphony_outbox_parked_rows": (),
    "symphony_postgres_connections": ("state",),
    "symphony_postgres_connections_max": (),
    "symphony_postgres_transaction_oldest_seconds": (),
    "symphony_postgres_database_bytes": (),
    "symphony_stock_low_products": ("level",),
    "symphony_census_age_seconds": ("source",),
    "symphony_db_pool_connections": ("state",),
    "symphony_db_acquire_seconds_bucket": ("le",),
    "symphony_db_acquire_seconds_count": (),
    "symphony_commit_age_seconds": ("consumer",),
    "symphony_table_recovery_remaining_records": ("table",),
    "symphony_table_entries": ("table",),
    "symphony_canary_results_total": ("arm", "outcome"),
    "symphony_fault_active": ("fault",),
    "symphony_gameday_phase": ("phase",),
}
