"""The worker as a process, and what the laboratory does to it."""

from __future__ import annotations

from app.observability.catalogue.buckets import SECONDS_SHORT
from app.observability.families import counter, gauge, histogram

POOL_STATES = ("busy", "idle", "unopened")
GAMEDAY_PHASES = (
    "warm_up",
    "steady_state_before",
    "method",
    "steady_state_after",
    "rollback",
    "recovery",
    "steady_state_after_rollback",
    "alert_exam",
    "audit",
    "report",
)

# The process. Its CPU, memory and descriptors (`symphony_process_*`) come from prometheus_client.
WORKER = gauge(
    "symphony_worker_info", "1 for this process.", "worker", "role", "incarnation", "version"
)
READY = gauge("symphony_worker_ready", "1 when the readiness probe passes.")
LOOP_DELAY = histogram(
    "symphony_event_loop_delay_seconds",
    "How late a sleeping task of the event loop woke up.",
    buckets=SECONDS_SHORT,
)
TRACE_SPANS = counter(
    "symphony_trace_spans_total",
    "Spans: exported, failed (the exporter lost them), dropped (the queue was full).",
    "outcome",
)

# The way to PostgreSQL.
DB_POOL = gauge(
    "symphony_db_pool_connections",
    f"Connections of this process by state: {', '.join(POOL_STATES)}; together db_pool_max.",
    "state",
)
DB_ACQUIRE = histogram(
    "symphony_db_acquire_seconds",
    "Waiting for a connection of the pool, opening one included.",
    buckets=SECONDS_SHORT,
)
DB_ROUND_TRIP = histogram(
    "symphony_db_round_trip_seconds",
    "From sending statements to PostgreSQL to their answer.",
    buckets=SECONDS_SHORT,
)
DB_ERRORS = counter(
    "symphony_db_errors_total",
    "Transactions that ended in an error of the database's: outage, or transient (contention, a"
    " timeout).",
    "kind",
)

# The laboratory.
FAULTS_INJECTED = counter(
    "symphony_chaos_injected_total",
    "Faults that struck, by place: a failpoint, or what a chaos rule is about (topic, route, ...).",
    "place",
    "fault",
)
FAULT_DELAY = histogram(
    "symphony_chaos_delay_seconds",
    "How long a chaos rule held up what it struck.",
    "fault",
    buckets=SECONDS_SHORT,
)
FAULT_ACTIVE = gauge(
    "symphony_fault_active",
    "Faults in force now: chaos rules in this worker; in role slo of a lab also faults from outside"
    " that are held for a while.",
    "fault",
)
GAMEDAY_PHASE = gauge(
    "symphony_gameday_phase",
    f"1 for the phase of the GameDay that goes on: {', '.join(GAMEDAY_PHASES)}; from role slo of"
    " a lab.",
    "phase",
)
