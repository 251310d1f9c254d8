"""Retries and dead letters."""

from __future__ import annotations

from chaos.observe.dashboards.limits import DEAD_LETTERS as MANY
from chaos.observe.dashboards.limits import NONE
from chaos.observe.panels import RATE, Dashboard, Panel, Query, Row

DEAD_LETTERS = Dashboard(
    "dead-letters",
    "Dead letters and retries",
    "What could not be done, what is tried again, and what operators do about it.",
    (
        Row(
            "Waiting for a person",
            (
                Panel(
                    "Dead letters",
                    "That nobody has acted on, by topic.",
                    "short",
                    (Query("max by (topic) (symphony_dlq_depth)", "{{topic}}"),),
                    limit=MANY,
                    stacked=True,
                ),
                Panel(
                    "Oldest",
                    "Age of the oldest that nobody has acted on.",
                    "s",
                    (Query("max(symphony_dlq_oldest_age_seconds)", "oldest"),),
                ),
                Panel(
                    "Consumers stopped by a flood",
                    "1 until an operator releases the consumer.",
                    "short",
                    (Query("max by (consumer) (symphony_dlq_flood)", "{{consumer}}"),),
                    limit=NONE,
                ),
            ),
        ),
        Row(
            "Flow",
            (
                Panel(
                    "Dead-lettered",
                    "Records per second by consumer and class of error.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, error)"
                            f" (rate(symphony_delivery_dead_lettered_total[{RATE}]))",
                            "{{consumer}} {{error}}",
                        ),
                    ),
                ),
                Panel(
                    "Retried",
                    "Records per second by retry tier.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, tier)"
                            f" (rate(symphony_delivery_retried_total[{RATE}]))",
                            "{{consumer}} {{tier}}",
                        ),
                    ),
                ),
                Panel(
                    "Settled by jobs",
                    "Dead letters per second that a job is done with.",
                    "ops",
                    (
                        Query(
                            f"sum by (kind, outcome) (rate(symphony_dlq_settled_total[{RATE}]))",
                            "{{kind}}: {{outcome}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
