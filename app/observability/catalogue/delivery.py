"""The delivery core: `consumer` is the name given to consume().

For what happens to a whole worker (commits, rebalances, leases) it is the role's name, which is
its group's. Partitions are summed up: each of them is in the worker's /status.
"""

from __future__ import annotations

from app.observability.catalogue.buckets import (
    RECORDS,
    SECONDS_LONG,
    SECONDS_SHORT,
    SECONDS_WAITED,
)
from app.observability.families import counter, gauge, histogram

BATCH_STATES = ("idle", "working", "held", "waiting")
HOLD_REASONS = ("database", "flood")

LAG = gauge(
    "symphony_delivery_lag_records",
    "Records between the watermarks of a worker's partitions and their ends, added up; absent while"
    " no partition is assigned or its end is not known yet.",
    "consumer",
    "topic",
)
WATERMARK_AGE = gauge(
    "symphony_delivery_watermark_age_seconds",
    "Time since a watermark last moved while records were waiting, the longest of the partitions;"
    " 0 when caught up.",
    "consumer",
    "topic",
)
BATCH_STATE = gauge(
    "symphony_delivery_batch_state",
    f"1 for the state the current batch is in: {', '.join(BATCH_STATES)}.",
    "consumer",
    "state",
)
HELD = gauge(
    "symphony_delivery_held",
    f"1 for the reason a held batch waits for: {', '.join(HOLD_REASONS)}.",
    "consumer",
    "reason",
)
RECORD_AGE = histogram(
    "symphony_delivery_record_age_seconds",
    "Age of a batch's oldest record when its step began: how long it waited in its topic.",
    "consumer",
    buckets=SECONDS_WAITED,
)
BATCH_RECORDS = histogram(
    "symphony_delivery_batch_records",
    "Records in one step of the delivery core.",
    "consumer",
    buckets=RECORDS,
)
STEP_SECONDS = histogram(
    "symphony_delivery_step_seconds",
    "Time of one step by phase: decode, transaction (calls included), tables, outputs.",
    "consumer",
    "phase",
    buckets=SECONDS_SHORT,
)
RECORDS_READ = counter(
    "symphony_delivery_records_total", "Records taken up by steps.", "consumer", "topic"
)
DUPLICATES = counter(
    "symphony_delivery_duplicates_total",
    "Events already finished, by where it was seen: table, inbox, batch.",
    "consumer",
    "source",
)
DEAD_LETTERED = counter(
    "symphony_delivery_dead_lettered_total",
    "Records moved to a dead-letter topic, by error class.",
    "consumer",
    "error",
)
DLQ_FLOOD = gauge(
    "symphony_dlq_flood",
    "1 while a consumer is stopped by too many dead letters; an operator must release it.",
    "consumer",
)
RETRIED = counter(
    "symphony_delivery_retried_total", "Events moved to a retry tier.", "consumer", "tier"
)
BATCH_RETRIES = counter(
    "symphony_delivery_batch_retries_total",
    "Whole batches tried again because of contention: deadlock, serialization, timeout.",
    "consumer",
    "cause",
)
SPLITS = counter(
    "symphony_delivery_splits_total", "Failed batches split to isolate an event.", "consumer"
)
HOLDS = counter(
    "symphony_delivery_holds_total", "Batches that had to be held.", "consumer", "reason"
)
POSITION_GUARD = counter(
    "symphony_delivery_position_guard_total",
    "What became of fetches out of place: dropped, rewound, hole, stale, abandoned.",
    "consumer",
    "action",
)
OUTPUTS = counter("symphony_delivery_outputs_total", "Output records acknowledged.", "consumer")
COMMITS = counter(
    "symphony_delivery_commits_total",
    "Watermark commits by outcome: ok, or refused (another generation, or no answer in time).",
    "consumer",
    "outcome",
)
COMMIT_AGE = gauge(
    "symphony_commit_age_seconds",
    "Time since finished records were last committed; 0 while none is uncommitted, absent while no"
    " partition is assigned.",
    "consumer",
)
REBALANCES = counter(
    "symphony_delivery_rebalances_total",
    "Group events seen: assigned (and recovered), revoked.",
    "consumer",
    "event",
)
REBALANCE_SECONDS = histogram(
    "symphony_delivery_rebalance_seconds",
    "From the start of a rebalance to readable partitions, recovery of tables included.",
    "consumer",
    buckets=SECONDS_LONG,
)
LEASE_WAITS = counter(
    "symphony_delivery_lease_waits_total",
    "Steps that had to wait for a fresh heartbeat.",
    "consumer",
)

# Changelog-backed tables.
TABLE_RECOVERY = gauge(
    "symphony_table_recovery_remaining_records",
    "Changelog records still to be read before the table is as it was; 0 when recovered.",
    "table",
)
TABLE_ENTRIES = gauge(
    "symphony_table_entries",
    "Entries of this worker's partitions of a table; RocksDB estimates them from above: what was"
    " overwritten counts until it is compacted.",
    "table",
)
