"""What becomes of orders: saga, payment, fraud review, notifications."""

from __future__ import annotations

from app.observability.catalogue.buckets import SECONDS_LONG, SECONDS_SHORT, SECONDS_WAITED
from app.observability.families import counter, gauge, histogram

BREAKER_STATES = ("closed", "open", "half_open")

# Saga.
SAGA_STARTED = counter("symphony_saga_started_total", "Sagas created.")
SAGA_TRANSITIONS = counter(
    "symphony_saga_transitions_total", "State changes of sagas.", "from_state", "to_state"
)
SAGA_FINISHED = counter(
    "symphony_saga_finished_total", "Sagas that reached a final state.", "state", "reason"
)
SAGA_SECONDS = histogram(
    "symphony_saga_duration_seconds",
    "From the order's creation to the final state.",
    "state",
    buckets=SECONDS_LONG,
)
SAGA_IGNORED = counter(
    "symphony_saga_ignored_total", "Duplicates and stale replies a saga ignored.", "reason"
)
SAGA_ILLEGAL = counter(
    "symphony_saga_illegal_total",
    "Events no rule of the saga allows; each raises an alert.",
    "state",
)
SAGA_OPERATIONS = counter(
    "symphony_saga_operations_total",
    "Operators' actions on sagas, by what the history says of them; refused ones too.",
    "event",
)
SAGA_REDRIVES = counter("symphony_saga_redrives_total", "Commands sent again.", "step", "cause")
SAGA_STALE_TABLE = counter(
    "symphony_saga_stale_table_total", "Guarded updates that missed and reloaded the saga."
)

# Payment gateway, seen from the client.
GATEWAY_CALLS = counter(
    "symphony_gateway_calls_total",
    "Calls to the payment gateway by outcome: ok, declined, error, timeout, rejected (breaker).",
    "operation",
    "outcome",
)
GATEWAY_SECONDS = histogram(
    "symphony_gateway_call_seconds",
    "Time of one call with its attempts.",
    "operation",
    buckets=SECONDS_SHORT,
)
GATEWAY_INFLIGHT = gauge("symphony_gateway_inflight_calls", "Calls being made now.")
BREAKER_STATE = gauge(
    "symphony_breaker_state",
    f"1 for the state the circuit breaker is in: {', '.join(BREAKER_STATES)}.",
    "breaker",
    "state",
)
BREAKER_TRANSITIONS = counter(
    "symphony_breaker_transitions_total", "Changes of the breaker's state.", "breaker", "state"
)

# Canary: both arms are counted by the workers that charge.
CANARY_RESULTS = counter(
    "symphony_canary_results_total",
    "Tries of charges by the arm that made them (stable, canary) and what came of it: charged,"
    " declined, cancelled (nothing was captured), retried, parked.",
    "arm",
    "outcome",
)

# Fraud review.
FRAUD_SCANNED = counter("symphony_fraud_orders_scanned_total", "Accepted orders that were scored.")
FRAUD_FLAGGED = counter(
    "symphony_fraud_orders_flagged_total", "Orders held until a person has reviewed them."
)
FRAUD_AUTO_REJECTED = counter(
    "symphony_fraud_orders_auto_rejected_total", "Orders rejected by their score alone."
)
FRAUD_DECIDED = counter(
    "symphony_fraud_orders_decided_total",
    "Held orders that a person decided on: approved, rejected.",
    "decision",
)

# Notifications.
NOTIFICATIONS = counter(
    "symphony_notifications_total",
    "Notifications by kind: sent, or repeated (another event had told it).",
    "kind",
    "outcome",
)
NOTIFICATION_LAG = histogram(
    "symphony_notification_lag_seconds",
    "From an event to the record that its notification was sent.",
    buckets=SECONDS_WAITED,
)
