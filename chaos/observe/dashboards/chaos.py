"""What the laboratory does, beside what customers feel of it."""

from __future__ import annotations

from chaos.observe.dashboards.limits import BURN, COMPLETION_S
from chaos.observe.panels import RATE, Dashboard, Panel, Query, Row
from chaos.observe.promql import quantile

CHAOS = Dashboard(
    "chaos",
    "Chaos and GameDays",
    "Faults in force and their hits, beside the signals that they should move. Faults and phases"
    " are marked on every panel of every dashboard.",
    (
        Row(
            "The laboratory",
            (
                Panel(
                    "Faults in force",
                    "By kind; rules in workers and faults from outside.",
                    "short",
                    (Query("max by (fault) (symphony_fault_active) > 0", "{{fault}}"),),
                ),
                Panel(
                    "Hits",
                    "How often faults struck per second, by place.",
                    "ops",
                    (
                        Query(
                            f"sum by (fault, place) (rate(symphony_chaos_injected_total[{RATE}]))",
                            "{{fault}} {{place}}",
                        ),
                    ),
                ),
                Panel(
                    "Workers with a rule",
                    "How many workers have a rule in force, by its fault.",
                    "short",
                    (Query('sum by (fault) (symphony_fault_active{role!="slo"})', "{{fault}}"),),
                ),
                Panel(
                    "Time taken by faults, p95",
                    "How long rules held up what they struck, by fault.",
                    "s",
                    (
                        Query(
                            quantile(0.95, "symphony_chaos_delay_seconds", RATE, "fault"),
                            "{{fault}}",
                        ),
                    ),
                    width=12,
                ),
                Panel(
                    "GameDay",
                    "The phase of the GameDay that goes on.",
                    "short",
                    (Query("max by (phase) (symphony_gameday_phase) == 1", "{{phase}}"),),
                    width=12,
                ),
            ),
        ),
        Row(
            "What customers feel",
            (
                Panel(
                    "Time to completion, 5 m",
                    "Quantiles of role slo; the line is the objective of the p95.",
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
                    "Burn rate, 5 m",
                    "How fast each error budget burns now.",
                    "short",
                    (Query('symphony:slo_burn_rate:max{window="5m"}', "{{slo}}"),),
                    limit=BURN,
                ),
                Panel(
                    "Orders that end",
                    "Per second by state.",
                    "ops",
                    (
                        Query(
                            f"sum by (state) (rate(symphony_saga_finished_total[{RATE}]))",
                            "{{state}}",
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "What the platform does about it",
            (
                Panel(
                    "Duplicates recognised",
                    "Per second: redelivery without a second effect.",
                    "ops",
                    (
                        Query(
                            f"sum by (source) (rate(symphony_delivery_duplicates_total[{RATE}]))",
                            "{{source}}",
                        ),
                    ),
                ),
                Panel(
                    "Retries and dead letters",
                    "Per second.",
                    "ops",
                    (
                        Query(
                            f"sum by (tier) (rate(symphony_delivery_retried_total[{RATE}]))",
                            "retried {{tier}}",
                        ),
                        Query(
                            f"sum(rate(symphony_delivery_dead_lettered_total[{RATE}]))",
                            "dead-lettered",
                        ),
                    ),
                ),
                Panel(
                    "Alerts that fire",
                    "By name: the alert exam in a picture.",
                    "short",
                    (Query('count by (alertname) (ALERTS{alertstate="firing"})', "{{alertname}}"),),
                ),
            ),
        ),
    ),
)
