"""The one catalogue of metrics: every name, kind, label set and meaning stands here.

Guarantees: names start with `symphony_`, units are base units and end the name, label values are
bounded. Use: `metrics.DUPLICATES.child("payment", "inbox").inc()`. The reference page
docs/reference/metrics.md is generated from this module.
"""

from __future__ import annotations

from app.observability.catalogue.slo import *  # noqa: F403
from app.observability.families import counter, gauge, histogram

BATCH_STATES = ("idle", "working", "held", "waiting")
HOLD_REASONS = ("database", "broker", "lease", "gateway", "flood")
BREAKER_STATES = ("closed", "open", "half_open")

SECONDS_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SECONDS_LONG = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# Delivery core: `consumer` is the name given to consume(), a partition label is a Kafka partition.
LAG = gauge(
    "symphony_delivery_lag_records",
    "Records between the watermark and the partition's end.",
    "consumer",
    "topic",
    "partition",
)
WATERMARK_AGE = gauge(
    "symphony_delivery_watermark_age_seconds",
    "Time since the watermark last moved while records were waiting; 0 when caught up.",
    "consumer",
    "topic",
    "partition",
)
BATCH_STATE = gauge(
    "symphony_delivery_batch_state",
    f"1 for the state a partition's batch is in: {', '.join(BATCH_STATES)}.",
    "consumer",
    "topic",
    "partition",
    "state",
)
HELD = gauge(
    "symphony_delivery_held",
    f"1 for the reason a held batch waits for: {', '.join(HOLD_REASONS)}.",
    "consumer",
    "topic",
    "partition",
    "reason",
)
BATCH_RECORDS = histogram(
    "symphony_delivery_batch_records",
    "Records in one step of the delivery core.",
    "consumer",
    buckets=RECORDS,
)
STEP_SECONDS = histogram(
    "symphony_delivery_step_seconds",
    "Time of one step by phase: decode, lookup, transaction, call, tables, outputs, commit.",
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
    "Watermark commits by outcome: ok, rejected, failed.",
    "consumer",
    "outcome",
)
REBALANCES = counter(
    "symphony_delivery_rebalances_total",
    "Group events seen: assigned, revoked, lost.",
    "consumer",
    "event",
)
LEASE_WAITS = counter(
    "symphony_delivery_lease_waits_total",
    "Steps that had to wait for a fresh heartbeat.",
    "consumer",
)

# Outbox and its relay.
OUTBOX_WRITTEN = counter(
    "symphony_outbox_written_total", "Outbox rows committed by writers.", "topic"
)
RELAY_LAG_ROWS = gauge("symphony_relay_lag_rows", "Outbox rows not yet published.")
RELAY_LAG_AGE = gauge(
    "symphony_relay_lag_age_seconds", "Age of the oldest unpublished outbox row; 0 when empty."
)
RELAY_PUBLISHED = counter(
    "symphony_relay_published_total", "Outbox rows acknowledged by Kafka.", "topic"
)
RELAY_PUBLISH_SECONDS = histogram(
    "symphony_relay_publish_seconds",
    "From the outbox row's creation to the broker's acknowledgement.",
    buckets=SECONDS_SHORT,
)
RELAY_BATCH_ROWS = histogram(
    "symphony_relay_batch_rows", "Rows published in one round of a shard.", buckets=RECORDS
)
RELAY_SHARDS = gauge("symphony_relay_shards", "Shards this relay holds the lease of.")
RELAY_LEASES = counter(
    "symphony_relay_lease_events_total", "Lease events: acquired, renewed, lost, fenced.", "event"
)
RELAY_PARKED = counter(
    "symphony_relay_parked_total", "Outbox rows parked because Kafka refuses them.", "topic"
)

# Jobs on dead letters.
DEAD_LETTERS_SETTLED = counter(
    "symphony_dlq_settled_total",
    "Dead letters a job is done with, by its kind (redrive, edit, discard) and what became of them:"
    " redriven, discarded, open (refused).",
    "kind",
    "outcome",
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

# HTTP API.
HTTP_REQUESTS = counter(
    "symphony_http_requests_total", "Requests answered.", "method", "route", "status"
)
HTTP_SECONDS = histogram(
    "symphony_http_request_duration_seconds",
    "Time from the request's head to its answer.",
    "method",
    "route",
    buckets=SECONDS_SHORT,
)
API_ORDERS = counter(
    "symphony_api_orders_total",
    "Order requests answered with an order: accepted, replayed (Idempotency-Key).",
    "outcome",
)
API_QUEUE = gauge("symphony_api_queue_orders", "Orders waiting for a writer.")
API_REFUSED = counter(
    "symphony_api_refused_total",
    "Requests refused because too many were there: orders (waiting), others (running).",
    "kind",
)
API_BATCH = histogram(
    "symphony_api_batch_orders", "Orders that shared one transaction.", buckets=RECORDS
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

# Laboratory and process.
FAULTS_INJECTED = counter(
    "symphony_chaos_injected_total",
    "Faults that struck, by place: a failpoint, or what a chaos rule is about (topic, route, ...).",
    "place",
    "fault",
)
CHAOS_RULES = gauge("symphony_chaos_rules_in_force", "Chaos rules that this worker has.", "fault")
WORKER = gauge(
    "symphony_worker_info", "1 for this process.", "worker", "role", "incarnation", "version"
)
READY = gauge("symphony_worker_ready", "1 when the readiness probe passes.")
LOOP_DELAY = histogram(
    "symphony_event_loop_delay_seconds",
    "How late a sleeping task of the event loop woke up.",
    buckets=SECONDS_SHORT,
)

NOTIFICATIONS = counter(
    "symphony_notifications_total",
    "Notifications by kind: sent, or repeated (another event had told it).",
    "kind",
    "outcome",
)
NOTIFICATION_LAG = histogram(
    "symphony_notification_lag_seconds",
    "From an event to the record that its notification was sent.",
    buckets=(0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0),
)
