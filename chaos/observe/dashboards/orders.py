"""What becomes of orders: sagas, payments, fraud review, notifications."""

from __future__ import annotations

from chaos.observe.dashboards.limits import COMPLETION_S, NONE
from chaos.observe.panels import RATE, Dashboard, Panel, Query, Row
from chaos.observe.promql import quantile

DURATION = "symphony_saga_duration_seconds"
COMPLETED = '{state="COMPLETED"}'
DECIDED = "symphony_fraud_orders_decided_total"

ORDERS = Dashboard(
    "orders",
    "Orders and sagas",
    "How orders move through the saga, how long they take, and which ones wait for a person.",
    (
        Row(
            "Sagas",
            (
                Panel(
                    "Started and finished",
                    "Sagas per second: created, and ended by state. A gap that stays is a backlog.",
                    "ops",
                    (
                        Query(f"sum(rate(symphony_saga_started_total[{RATE}]))", "started"),
                        Query(
                            f"sum by (state) (rate(symphony_saga_finished_total[{RATE}]))",
                            "{{state}}",
                        ),
                    ),
                ),
                Panel(
                    "Time to completion",
                    "From acceptance to COMPLETED; the line is the objective of the p95.",
                    "s",
                    tuple(
                        Query(quantile(q, DURATION, RATE, where=COMPLETED), f"p{q * 100:g}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                    limit=COMPLETION_S,
                    exemplars=True,
                ),
                Panel(
                    "Under way by state",
                    "Sagas that are not over, counted in PostgreSQL.",
                    "short",
                    (Query("max by (state) (symphony_saga_active)", "{{state}}"),),
                    stacked=True,
                ),
                Panel(
                    "Oldest by state",
                    "Age of the oldest saga in each state.",
                    "s",
                    (Query("max by (state) (symphony_saga_oldest_age_seconds)", "{{state}}"),),
                ),
                Panel(
                    "Stuck, and parked",
                    "Stuck: past its deadline, and nothing drives it. Parked: waits for a person.",
                    "short",
                    (
                        Query("max(symphony_saga_stuck)", "stuck"),
                        Query('max(symphony_saga_active{state="PARKED"})', "parked"),
                    ),
                    limit=NONE,
                ),
                Panel(
                    "Ends other than COMPLETED",
                    "Per second by reason.",
                    "ops",
                    (
                        Query(
                            "sum by (state, reason) (rate("
                            f'symphony_saga_finished_total{{state=~"CANCELLED|REJECTED"}}[{RATE}]))',
                            "{{state}} {{reason}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Changes of state",
                    "Per second, by the state that is entered; tables that were stale.",
                    "ops",
                    (
                        Query(
                            f"sum by (to_state) (rate(symphony_saga_transitions_total[{RATE}]))",
                            "{{to_state}}",
                        ),
                        Query(f"sum(rate(symphony_saga_stale_table_total[{RATE}]))", "stale table"),
                    ),
                ),
                Panel(
                    "Commands sent again",
                    "Re-drives per second, by the step that gave no answer.",
                    "ops",
                    (
                        Query(
                            f"sum by (step, cause) (rate(symphony_saga_redrives_total[{RATE}]))",
                            "{{step}} {{cause}}",
                        ),
                    ),
                ),
                Panel(
                    "Ignored and illegal events",
                    "Duplicates and stale replies are normal; an illegal event is a defect.",
                    "ops",
                    (
                        Query(
                            f"sum by (reason) (rate(symphony_saga_ignored_total[{RATE}]))",
                            "ignored: {{reason}}",
                        ),
                        Query(
                            f"sum by (state) (rate(symphony_saga_illegal_total[{RATE}]))",
                            "illegal in {{state}}",
                        ),
                    ),
                ),
                Panel(
                    "Operators' actions",
                    "What operators did to sagas, refused ones too.",
                    "ops",
                    (
                        Query(
                            f"sum by (event) (rate(symphony_saga_operations_total[{RATE}]))",
                            "{{event}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Payment",
            (
                Panel(
                    "Calls to the provider",
                    "Per second by outcome; rejected ones the breaker did not let through.",
                    "ops",
                    (
                        Query(
                            f"sum by (outcome) (rate(symphony_gateway_calls_total[{RATE}]))",
                            "{{outcome}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Time of a call",
                    "p95 by operation, attempts included.",
                    "s",
                    (
                        Query(
                            quantile(0.95, "symphony_gateway_call_seconds", RATE, "operation"),
                            "{{operation}}",
                        ),
                    ),
                    exemplars=True,
                ),
                Panel(
                    "Calls under way",
                    "Being made now, by worker.",
                    "short",
                    (Query("max by (worker) (symphony_gateway_inflight_calls)", "{{worker}}"),),
                ),
                Panel(
                    "Breaker",
                    "1 for the state that the circuit breaker of a worker is in.",
                    "short",
                    (
                        Query(
                            "max by (worker, state) (symphony_breaker_state) == 1",
                            "{{worker}} {{state}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Fraud review and notifications",
            (
                Panel(
                    "Reviews",
                    "Orders per second: scored, held for a person, rejected by their score.",
                    "ops",
                    (
                        Query(f"sum(rate(symphony_fraud_orders_scanned_total[{RATE}]))", "scored"),
                        Query(f"sum(rate(symphony_fraud_orders_flagged_total[{RATE}]))", "held"),
                        Query(
                            f"sum(rate(symphony_fraud_orders_auto_rejected_total[{RATE}]))",
                            "rejected by score",
                        ),
                        Query(
                            f"sum by (decision) (rate({DECIDED}[{RATE}]))",
                            "{{decision}} by a person",
                        ),
                    ),
                ),
                Panel(
                    "Notifications",
                    "Per second by outcome.",
                    "ops",
                    (
                        Query(
                            f"sum by (outcome) (rate(symphony_notifications_total[{RATE}]))",
                            "{{outcome}}",
                        ),
                    ),
                ),
                Panel(
                    "Notifications, p95 of their lag",
                    "From the event to the record that people were told.",
                    "s",
                    (Query(quantile(0.95, "symphony_notification_lag_seconds", RATE), "p95"),),
                ),
            ),
        ),
    ),
)
