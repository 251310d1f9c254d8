"""The two arms of the payment, side by side."""

from __future__ import annotations

from chaos.observe.panels import RATE, Dashboard, Limit, Panel, Query, Row
from chaos.observe.promql import quantile

RESULTS = "symphony_canary_results_total"
BAD = '{outcome=~"retried|parked"}'

CANARY = Dashboard(
    "canary",
    "Canary comparison",
    "The stable and the canary arm of the payment: same questions, same scale.",
    (
        Row(
            "Results",
            (
                Panel(
                    "Share of the canary",
                    "Of the tries that had a result.",
                    "percentunit",
                    (
                        Query(
                            f'sum(rate({RESULTS}{{arm="canary"}}[{RATE}]))'
                            f" / sum(rate({RESULTS}[{RATE}]))",
                            "canary",
                        ),
                    ),
                ),
                Panel(
                    "Bad results",
                    "Share of tries that had to be retried or were parked; CanaryWorse fires at ten"
                    " points of difference.",
                    "percentunit",
                    (
                        Query(
                            f"sum by (arm) (rate({RESULTS}{BAD}[{RATE}]))"
                            f" / sum by (arm) (rate({RESULTS}[{RATE}]))",
                            "{{arm}}",
                        ),
                    ),
                    limit=Limit(0.1),
                ),
                Panel(
                    "Results",
                    "Per second by arm and outcome.",
                    "ops",
                    (
                        Query(
                            f"sum by (arm, outcome) (rate({RESULTS}[{RATE}]))",
                            "{{arm}} {{outcome}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Work",
            (
                Panel(
                    "Calls, p95",
                    "Time of a call to the provider by role.",
                    "s",
                    (
                        Query(
                            quantile(0.95, "symphony_gateway_call_seconds", RATE, "role"),
                            "{{role}}",
                        ),
                    ),
                    exemplars=True,
                ),
                Panel(
                    "Steps, p95",
                    "Time of a step by role and phase.",
                    "s",
                    (
                        Query(
                            quantile(
                                0.95,
                                "symphony_delivery_step_seconds",
                                RATE,
                                *("role", "phase"),
                                where='{role=~"payment|payment-canary"}',
                            ),
                            "{{role}} {{phase}}",
                        ),
                    ),
                ),
                Panel(
                    "Lag",
                    "Age of the oldest charge not done, by role.",
                    "s",
                    (
                        Query(
                            "max by (role) (symphony_consumer_lag_seconds"
                            '{role=~"payment|payment-canary"})',
                            "{{role}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
