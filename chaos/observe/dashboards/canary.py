"""The two arms of the payment, side by side."""

from __future__ import annotations

from chaos.observe.alerts_on_orders import CANARY_WORSE
from chaos.observe.dashboards.limits import CANARY_DIFFERENCE
from chaos.observe.panels import RATE, Dashboard, Panel, Query, Row
from chaos.observe.promql import quantile

RESULTS = "symphony_canary_results_total"

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
                    width=6,
                ),
                Panel(
                    "Bad results",
                    "Share of tries that had to be retried or were parked, over ten minutes.",
                    "percentunit",
                    (Query("symphony:canary_bad_results:ratio_increase10m", "{{arm}}"),),
                    width=6,
                ),
                Panel(
                    "The canary does worse by",
                    "Its share of bad results less the stable version's; over the line CanaryWorse"
                    " fires.",
                    "percentunit",
                    (Query(CANARY_WORSE, "difference"),),
                    limit=CANARY_DIFFERENCE,
                    width=6,
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
                    width=6,
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
