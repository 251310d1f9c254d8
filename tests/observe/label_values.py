"""Which values a label can have, asked of the code that sets it."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.definition import FINAL, State
from app.observability import metrics
from app.roles import ROLES
from app.slo.panes import WINDOWS_S
from app.topics import CATALOGUE as TOPICS
from web.trace import NOT_TRACED

PHASES = frozenset({"decode", "transaction", "tables", "outputs"})
STATES = frozenset(state.value for state in State)

#: By metric and label; `*` stands for every metric.
VALUES: Mapping[tuple[str, str], frozenset[str]] = {
    ("*", "role"): frozenset({*ROLES, "monolith"}),
    ("ALERTS", "alertstate"): frozenset({"pending", "firing"}),
    ("*", "topic"): frozenset(TOPICS),
    ("*", "window"): frozenset(WINDOWS_S),
    ("symphony_delivery_step_seconds_bucket", "phase"): PHASES,
    ("symphony_gameday_phase", "phase"): frozenset(metrics.GAMEDAY_PHASES),
    ("*", "arm"): frozenset({"stable", "canary"}),
    ("*", "route"): frozenset({"/api/orders", *NOT_TRACED}),
    ("symphony_http_requests_total", "status"): frozenset({"200", "202", "404", "500", "503"}),
    ("symphony_api_orders_total", "outcome"): frozenset({"accepted", "replayed"}),
    ("symphony_saga_active", "state"): STATES - {state.value for state in FINAL},
    ("symphony_saga_oldest_age_seconds", "state"): STATES - {state.value for state in FINAL},
    ("symphony_saga_finished_total", "state"): frozenset(state.value for state in FINAL),
    ("symphony_saga_duration_seconds_bucket", "state"): frozenset(state.value for state in FINAL),
    ("symphony_breaker_state", "state"): frozenset(metrics.BREAKER_STATES),
    ("symphony_delivery_batch_state", "state"): frozenset(metrics.BATCH_STATES),
    ("symphony_delivery_held", "reason"): frozenset(metrics.HOLD_REASONS),
    ("symphony_delivery_rebalances_total", "event"): frozenset({"assigned", "revoked", "lost"}),
    ("symphony_canary_results_total", "outcome"): frozenset(
        {"charged", "declined", "cancelled", "retried", "parked"}
    ),
    ("symphony_db_pool_connections", "state"): frozenset(metrics.POOL_STATES),
    ("symphony_relay_lease_events_total", "event"): frozenset(
        {"acquired", "renewed", "lost", "fenced"}
    ),
    ("symphony_stock_low_products", "level"): frozenset({"low", "critical"}),
    ("symphony_slo_latency_seconds", "quantile"): frozenset({"0.5", "0.95", "0.99"}),
}
