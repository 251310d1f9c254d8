"""Are the promises kept? Objectives, burn rates, budgets."""

from __future__ import annotations

from app.slo.burn import BurnAlert
from chaos.observe.alerts_on_orders import BURN_ALERTS
from chaos.observe.dashboards.limits import BUDGET_LEFT, BURN, COMPLETION_S
from chaos.observe.panels import RATE, Dashboard, Limit, Panel, Query, Row


def _burn(name: str, alert: BurnAlert) -> Panel:
    return Panel(
        f"Burn rate, {alert.long} and {alert.short}",
        f"Over the line in both windows the alert {name} fires.",
        "short",
        tuple(
            Query(
                f'max by (slo) (symphony:slo_burn_rate:max{{window="{window}"}})',
                f"{{{{slo}}}} {window}",
            )
            for window in (alert.long, alert.short)
        ),
        limit=Limit(alert.factor),
        width=12,
    )


SLO = Dashboard(
    "slo",
    "SLOs and error budgets",
    "Which promises are kept, how fast their error budgets burn, and what is left. Windows carry"
    " their nominal names; a lab's are 60 times shorter. Without data there is no line.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Burn rate, 1 h",
                    "1 is the pace at which the budget lasts exactly as long as it must.",
                    "short",
                    (Query('symphony:slo_burn_rate:max{window="1h"}', "{{slo}}"),),
                    "stat",
                    BURN,
                    12,
                ),
                Panel(
                    "Budget left",
                    "Share of the error budget that is left; negative when it is overspent.",
                    "percentunit",
                    (Query("min by (slo) (symphony_slo_budget_left_ratio)", "{{slo}}"),),
                    "stat",
                    BUDGET_LEFT,
                    12,
                ),
                Panel(
                    "Objective",
                    "The share that must be good.",
                    "percentunit",
                    (Query("max by (slo) (symphony_slo_objective_ratio)", "{{slo}}"),),
                    "stat",
                    width=12,
                ),
                Panel(
                    "Good, 1 h",
                    "The share that was good in the last hour.",
                    "percentunit",
                    (Query('1 - max by (slo) (symphony_slo_error_ratio{window="1h"})', "{{slo}}"),),
                    "stat",
                    width=12,
                ),
            ),
        ),
        Row("Burn rates", tuple(_burn(*one) for one in BURN_ALERTS.items())),
        Row(
            "What is measured",
            (
                Panel(
                    "Time to completion, 5 m",
                    "Quantiles from sketches of role slo, within 1 % of the exact ones; the line is"
                    " the objective of the p95.",
                    "s",
                    (
                        Query(
                            'max by (quantile) (symphony_slo_latency_seconds{window="5m"})',
                            "q {{quantile}}",
                        ),
                    ),
                    limit=COMPLETION_S,
                ),
                Panel(
                    "Events by indicator",
                    "Good and bad events per second. A dead letter is bad by itself; of how many"
                    " events it is a share, the error ratio says.",
                    "ops",
                    (
                        Query(
                            f"sum by (sli, outcome) (rate(symphony_slo_events_total[{RATE}]))",
                            "{{sli}} {{outcome}}",
                        ),
                    ),
                ),
                Panel(
                    "Age of the data",
                    "How long ago all that is counted was read to its end.",
                    "s",
                    (Query("max(symphony_slo_data_age_seconds)", "age"),),
                    limit=Limit(60.0),
                ),
                Panel(
                    "Error ratio, 1 h",
                    "The share that was bad.",
                    "percentunit",
                    (Query('max by (slo) (symphony_slo_error_ratio{window="1h"})', "{{slo}}"),),
                ),
                Panel(
                    "Odd events",
                    "Events with an impossible time or latency, by what is odd about them.",
                    "ops",
                    (
                        Query(
                            f"sum by (kind) (rate(symphony_slo_odd_events_total[{RATE}]))",
                            "{{kind}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
