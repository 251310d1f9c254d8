"""From the outbox to Kafka."""

from __future__ import annotations

from chaos.observe.dashboards.limits import NONE, OUTBOX_S
from chaos.observe.panels import RATE, Dashboard, Panel, Query, Row
from chaos.observe.promql import quantile

PUBLISH = "symphony_relay_publish_seconds"

OUTBOX = Dashboard(
    "outbox",
    "Outbox and relay",
    "What was committed and is not published yet, and who carries it.",
    (
        Row(
            "Waiting",
            (
                Panel(
                    "Rows",
                    "Not yet published, counted in PostgreSQL: also when no relay lives.",
                    "short",
                    (
                        Query("max(symphony_outbox_pending_rows)", "census"),
                        Query("max(symphony_relay_lag_rows)", "relay"),
                    ),
                ),
                Panel(
                    "Oldest row",
                    "Over the line the alert OutboxLag fires.",
                    "s",
                    (
                        Query("max(symphony_outbox_oldest_age_seconds)", "census"),
                        Query("max(symphony_relay_lag_age_seconds)", "relay"),
                    ),
                    limit=OUTBOX_S,
                ),
                Panel(
                    "Parked rows",
                    "Kafka refused them; an operator must act.",
                    "short",
                    (Query("max(symphony_outbox_parked_rows)", "parked"),),
                    limit=NONE,
                ),
            ),
        ),
        Row(
            "Flow",
            (
                Panel(
                    "Written and published",
                    "Rows per second: committed by writers, acknowledged by Kafka.",
                    "ops",
                    (
                        Query(f"sum(rate(symphony_outbox_written_total[{RATE}]))", "written"),
                        Query(f"sum(rate(symphony_relay_published_total[{RATE}]))", "published"),
                    ),
                ),
                Panel(
                    "From commit to acknowledgement",
                    "Quantiles over all rows.",
                    "s",
                    tuple(
                        Query(quantile(q, PUBLISH, RATE), f"p{q * 100:g}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                    exemplars=True,
                ),
                Panel(
                    "Rows in a round, median",
                    "How many rows share one round of a shard.",
                    "short",
                    (Query(quantile(0.5, "symphony_relay_batch_rows", RATE), "rows"),),
                ),
            ),
        ),
        Row(
            "Relays",
            (
                Panel(
                    "Shards held",
                    "Leases by relay; together all shards.",
                    "short",
                    (Query("max by (worker) (symphony_relay_shards)", "{{worker}}"),),
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Lease events",
                    "Acquired, lost and fenced per second; a fenced relay was too late.",
                    "ops",
                    (
                        Query(
                            "sum by (event) (rate(symphony_relay_lease_events_total"
                            f'{{event!="renewed"}}[{RATE}]))',
                            "{{event}}",
                        ),
                    ),
                    width=12,
                ),
            ),
        ),
    ),
)
