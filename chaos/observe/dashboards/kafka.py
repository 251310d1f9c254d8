"""Consumers and workers: lag, progress, rebalances, tables."""

from __future__ import annotations

from chaos.observe.dashboards.limits import LAG_S, NONE
from chaos.observe.panels import RATE, ROLE, Dashboard, Limit, Panel, Query, Row
from chaos.observe.promql import quantile

OF_ROLE = '{role=~"$role"}'

KAFKA = Dashboard(
    "kafka",
    "Kafka and workers",
    "Who reads what, how far behind, and how its steps spend their time.",
    (
        Row(
            "Lag",
            (
                Panel(
                    "Lag by offsets",
                    "Records not committed by the group of a role; also when no worker lives.",
                    "short",
                    (
                        Query(
                            f"max by (role, topic) (symphony_consumer_lag_records{OF_ROLE})",
                            "{{role}} {{topic}}",
                        ),
                    ),
                ),
                Panel(
                    "Lag by time",
                    "Age of the oldest record not committed.",
                    "s",
                    (
                        Query(
                            f"max by (role, topic) (symphony_consumer_lag_seconds{OF_ROLE})",
                            "{{role}} {{topic}}",
                        ),
                    ),
                    limit=LAG_S,
                ),
                Panel(
                    "Watermarks that stand still",
                    "Time since a watermark moved while records waited.",
                    "s",
                    (
                        Query(
                            "max by (worker, topic)"
                            f" (symphony_delivery_watermark_age_seconds{OF_ROLE})",
                            "{{worker}} {{topic}}",
                        ),
                    ),
                    limit=Limit(60.0),
                ),
                Panel(
                    "Members of the groups",
                    "Live members as Kafka knows them. None: nobody reads.",
                    "short",
                    (Query(f"max by (role) (symphony_consumer_members{OF_ROLE})", "{{role}}"),),
                    limit=Limit(1.0, below=True),
                ),
                Panel(
                    "Age of commits",
                    "How long finished work has waited for its commit.",
                    "s",
                    (
                        Query(
                            f"max by (worker, consumer) (symphony_commit_age_seconds{OF_ROLE})",
                            "{{worker}} {{consumer}}",
                        ),
                    ),
                ),
                Panel(
                    "Held batches",
                    "1 while a consumer waits for a server, or for an operator (flood).",
                    "short",
                    (
                        Query(
                            f"max by (worker, reason) (symphony_delivery_held{OF_ROLE})",
                            "{{worker}} {{reason}}",
                        ),
                    ),
                    limit=NONE,
                ),
            ),
        ),
        Row(
            "Steps",
            (
                Panel(
                    "Records",
                    "Taken up per second.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, topic)"
                            f" (rate(symphony_delivery_records_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} {{topic}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Time of a step by phase, p95",
                    "Where a step spends its time.",
                    "s",
                    (
                        Query(
                            quantile(
                                0.95,
                                "symphony_delivery_step_seconds",
                                RATE,
                                *("consumer", "phase"),
                                where=OF_ROLE,
                            ),
                            "{{consumer}} {{phase}}",
                        ),
                    ),
                    exemplars=True,
                ),
                Panel(
                    "Waiting in topics, p95",
                    "Age of the oldest record of a batch when its step began.",
                    "s",
                    (
                        Query(
                            quantile(
                                0.95,
                                "symphony_delivery_record_age_seconds",
                                RATE,
                                "consumer",
                                where=OF_ROLE,
                            ),
                            "{{consumer}}",
                        ),
                    ),
                ),
                Panel(
                    "Outputs",
                    "Records acknowledged by Kafka per second.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer)"
                            f" (rate(symphony_delivery_outputs_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}}",
                        ),
                    ),
                ),
                Panel(
                    "Records in a step, median",
                    "Small batches are quick, large ones are efficient.",
                    "short",
                    (
                        Query(
                            quantile(
                                0.5,
                                "symphony_delivery_batch_records",
                                RATE,
                                "consumer",
                                where=OF_ROLE,
                            ),
                            "{{consumer}}",
                        ),
                    ),
                ),
                Panel(
                    "Duplicates",
                    "Events that were finished already, by where that was seen.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, source)"
                            f" (rate(symphony_delivery_duplicates_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} {{source}}",
                        ),
                    ),
                ),
                Panel(
                    "Batches tried again and split",
                    "Contention, and failed batches in search of the event.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, cause)"
                            f" (rate(symphony_delivery_batch_retries_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} {{cause}}",
                        ),
                        Query(
                            "sum by (consumer)"
                            f" (rate(symphony_delivery_splits_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} split",
                        ),
                    ),
                ),
                Panel(
                    "Fetches out of place",
                    "What the position guard did about them.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, action)"
                            f" (rate(symphony_delivery_position_guard_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} {{action}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Groups, tables, processes",
            (
                Panel(
                    "Rebalances",
                    "Group events per second.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, event)"
                            f" (rate(symphony_delivery_rebalances_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} {{event}}",
                        ),
                    ),
                ),
                Panel(
                    "Time of a rebalance, p95",
                    "Until the partitions are readable, recovery of tables included.",
                    "s",
                    (
                        Query(
                            quantile(
                                0.95,
                                "symphony_delivery_rebalance_seconds",
                                RATE,
                                "consumer",
                                where=OF_ROLE,
                            ),
                            "{{consumer}}",
                        ),
                    ),
                ),
                Panel(
                    "Commits, holds, waits for a lease",
                    "Per second: commits by outcome; steps that had to wait.",
                    "ops",
                    (
                        Query(
                            "sum by (consumer, outcome)"
                            f" (rate(symphony_delivery_commits_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} commit {{outcome}}",
                        ),
                        Query(
                            "sum by (consumer, reason)"
                            f" (rate(symphony_delivery_holds_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} held: {{reason}}",
                        ),
                        Query(
                            "sum by (consumer)"
                            f" (rate(symphony_delivery_lease_waits_total{OF_ROLE}[{RATE}]))",
                            "{{consumer}} waited for its lease",
                        ),
                    ),
                ),
                Panel(
                    "Table recovery",
                    "Changelog records still to be read.",
                    "short",
                    (
                        Query(
                            "max by (worker, table)"
                            f" (symphony_table_recovery_remaining_records{OF_ROLE})",
                            "{{worker}} {{table}}",
                        ),
                    ),
                ),
                Panel(
                    "Table entries",
                    "Entries by table, of all workers.",
                    "short",
                    (Query(f"sum by (table) (symphony_table_entries{OF_ROLE})", "{{table}}"),),
                ),
                Panel(
                    "Ready",
                    "0 while a worker waits.",
                    "short",
                    (Query(f"min by (worker) (symphony_worker_ready{OF_ROLE})", "{{worker}}"),),
                    limit=Limit(1.0, below=True),
                ),
                Panel(
                    "Starts",
                    "Changes of a worker's start within an hour.",
                    "short",
                    (
                        Query(
                            "max by (worker)"
                            f" (changes(symphony_process_start_time_seconds{OF_ROLE}[1h]))",
                            "{{worker}}",
                        ),
                    ),
                ),
                Panel(
                    "Spans",
                    "Handed to the exporter per second; failed and dropped ones are lost.",
                    "ops",
                    (
                        Query(
                            f"sum by (outcome) (rate(symphony_trace_spans_total{OF_ROLE}[{RATE}]))",
                            "{{outcome}}",
                        ),
                    ),
                ),
                Panel(
                    "Open files",
                    "File descriptors in use.",
                    "short",
                    (Query(f"max by (worker) (symphony_process_open_fds{OF_ROLE})", "{{worker}}"),),
                ),
            ),
        ),
    ),
    (ROLE,),
)
