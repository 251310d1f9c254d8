"""Alerts about workers, Kafka, PostgreSQL, outbox, stock and the laboratory itself."""

from __future__ import annotations

from app.roles import ROLES
from chaos.observe.alert import HOUR_S, MINUTE_S, Alert
from chaos.observe.promql import grown, quantile
from chaos.observe.scale import Scale

OURS = 'up{role!=""}'
"""Targets that are workers: only they have a role."""
ALL_IN_ONE = 'up{role="monolith"}'
STANDARD = tuple(sorted(name for name, role in ROLES.items() if role.standard))
MEGABYTE = 1024 * 1024
HALF_HOUR_S = 1800


def _role_absent(_: Scale) -> str:
    absent = "\nor ".join(f'absent(up{{role="{role}"}})' for role in STANDARD)
    return (
        f"(\nmax by (role) ({OURS}) == bool 0 == 1\nor {absent}\n)\nunless on () {ALL_IN_ONE} == 1"
    )


def _worker_stuck(scale: Scale) -> str:
    return (
        "max by (role, worker, consumer, topic) (\n"
        f"symphony_delivery_watermark_age_seconds > {scale.pick(60, 10)}\n"
        "and symphony_delivery_lag_records > 0\n"
        'unless on (worker, consumer) symphony_delivery_batch_state{state="waiting"} == 1\n'
        ")"
    )


def _storm(scale: Scale) -> str:
    window = scale.window(HALF_HOUR_S)
    grew = f'increase(symphony_delivery_rebalances_total{{event="assigned"}}[{window}])'
    return f"max by (role) ({grew}) > {scale.pick(5, 3)}"


def _restarts(scale: Scale) -> str:
    window = scale.window(HALF_HOUR_S)
    return f"max by (role, worker) (changes(symphony_process_start_time_seconds[{window}])) > 3"


def _memory(scale: Scale) -> str:
    """Steadily: over half an hour and still, for a large batch is one step; and not while the
    window reaches back to the start, when every worker grows.
    """
    limit = scale.pick(100 * MEGABYTE / HOUR_S, MEGABYTE)
    grows = [
        f"max by (role, worker) (deriv(symphony_process_resident_memory_bytes[{window}])) > {limit}"
        for window in (scale.window(HALF_HOUR_S), scale.window(10 * MINUTE_S))
    ]
    runs_for = f"time() - symphony_process_start_time_seconds > {scale.window_s(HALF_HOUR_S)}"
    return "\nand ".join((*grows, f"max by (role, worker) ({runs_for})"))


def _no_effect(scale: Scale) -> str:
    hits = grown("symphony_chaos_injected_total", scale.window(5 * MINUTE_S))
    return (
        'sum by (fault) (symphony_fault_active{role!="slo"}) > 0\n'
        f"unless on (fault) sum by (fault) ({hits}) > 0"
    )


WORKER_ALERTS = (
    Alert(
        "RoleAbsent",
        "page",
        "workers",
        _role_absent,
        MINUTE_S,
        "No worker of role {{ $labels.role }} answers",
        "Nothing does the work of role {{ $labels.role }}: all its workers are down, or none is"
        " known to Prometheus.",
        "a-role-has-no-worker",
        on_no_data=True,
    ),
    Alert(
        "WorkerDown",
        "ticket",
        "workers",
        lambda _: f"min by (role, worker) ({OURS}) == 0",
        MINUTE_S,
        "{{ $labels.worker }} does not answer",
        "{{ $labels.worker }} (role {{ $labels.role }}) does not answer its scrape.",
        "a-role-has-no-worker",
        symptom=True,
    ),
    Alert(
        "WorkerNotReady",
        "ticket",
        "workers",
        lambda _: "min by (role, worker) (symphony_worker_ready) == 0",
        10 * MINUTE_S,
        "{{ $labels.worker }} lives and is not ready",
        "{{ $labels.worker }} waits: for a server, for its group, or for its tables.",
        "a-worker-does-not-start",
    ),
    Alert(
        "WorkerRestarts",
        "ticket",
        "workers",
        _restarts,
        0,
        "{{ $labels.worker }} restarts again and again",
        "{{ $labels.worker }} was started {{ $value }} times within half an hour.",
        "a-worker-restarts-again-and-again",
    ),
    Alert(
        "EventLoopLate",
        "ticket",
        "workers",
        lambda _: "symphony:event_loop_delay_seconds:p99_rate5m > 0.5",
        5 * MINUTE_S,
        "The event loop of {{ $labels.worker }} is late: p99 {{ $value | humanizeDuration }}",
        "Something in {{ $labels.worker }} blocks its event loop, or its machine has no time left.",
        "a-workers-event-loop-is-late-or-its-memory-grows",
    ),
    Alert(
        "MemoryGrows",
        "ticket",
        "workers",
        _memory,
        10 * MINUTE_S,
        "The memory of {{ $labels.worker }} grows by {{ $value | humanize1024 }}B/s",
        "The resident memory of {{ $labels.worker }} has grown steadily: it will be killed for it.",
        "a-workers-event-loop-is-late-or-its-memory-grows",
    ),
)

CONSUMER_ALERTS = (
    Alert(
        "ConsumerLag",
        "ticket",
        "consumers",
        lambda s: (
            'max by (role, topic) (symphony_consumer_lag_seconds{topic!~"retry[.].*"})'
            f" > {s.pick(30, 5)}"
        ),
        10 * MINUTE_S,
        "{{ $labels.role }} is {{ $value | humanizeDuration }} behind on {{ $labels.topic }}",
        "The oldest record of {{ $labels.topic }} that role {{ $labels.role }} has not finished is"
        " that old.",
        "a-partition-stands-still-or-the-lag-grows",
        symptom=True,
    ),
    Alert(
        "WorkerStuck",
        "page",
        "consumers",
        _worker_stuck,
        MINUTE_S,
        "{{ $labels.worker }} makes no progress on {{ $labels.topic }}",
        "Records wait in {{ $labels.topic }}, and the watermark of {{ $labels.consumer }} on"
        " {{ $labels.worker }} has not moved for {{ $value | humanizeDuration }}.",
        "a-partition-stands-still-or-the-lag-grows",
    ),
    Alert(
        "BatchHeld",
        "page",
        "consumers",
        lambda _: (
            'max by (role, worker, consumer, reason) (symphony_delivery_held{reason!="flood"}) == 1'
        ),
        2 * MINUTE_S,
        "{{ $labels.worker }} holds its work: {{ $labels.reason }}",
        "{{ $labels.consumer }} on {{ $labels.worker }} waits for its server"
        " ({{ $labels.reason }}). Nothing is lost, nothing moves.",
        "postgresql-is-away-or-out-of-connections",
    ),
    Alert(
        "CommitsOld",
        "ticket",
        "consumers",
        lambda s: (
            f"max by (role, worker, consumer) (symphony_commit_age_seconds) > {s.pick(60, 15)}"
        ),
        MINUTE_S,
        "{{ $labels.consumer }} on {{ $labels.worker }} does not commit",
        "Work is finished and its offsets have not been committed for"
        " {{ $value | humanizeDuration }}: after a crash all of it is done again, without effect.",
        "a-partition-stands-still-or-the-lag-grows",
    ),
    Alert(
        "GroupEmpty",
        "page",
        "consumers",
        lambda _: "max by (role) (symphony_consumer_members) == 0",
        MINUTE_S,
        "The consumer group of {{ $labels.role }} has no member",
        "Kafka knows no live member of the group of role {{ $labels.role }}: its topics are not"
        " read.",
        "a-role-has-no-worker",
    ),
    Alert(
        "RebalanceStorm",
        "ticket",
        "consumers",
        _storm,
        0,
        "The group of {{ $labels.role }} rebalances again and again",
        "The partitions of role {{ $labels.role }} change hands so often that work suffers.",
        "a-group-rebalances-again-and-again",
    ),
    Alert(
        "TableRecoveryLong",
        "ticket",
        "consumers",
        lambda _: "max by (role, worker, table) (symphony_table_recovery_remaining_records) > 0",
        5 * MINUTE_S,
        "{{ $labels.worker }} recovers {{ $labels.table }} for long",
        "{{ $labels.worker }} has {{ $value }} records of the changelog of {{ $labels.table }} to"
        " read before it works.",
        "a-table-takes-long-to-recover",
    ),
)

OUTBOX_ALERTS = (
    Alert(
        "OutboxLag",
        "page",
        "outbox",
        lambda s: f"max(symphony_outbox_oldest_age_seconds) > {s.pick(60, 5)}",
        MINUTE_S,
        "The outbox is {{ $value | humanizeDuration }} behind",
        "Accepted orders stand in PostgreSQL and are not published. They are safe, and nobody works"
        " on them.",
        "the-outbox-grows",
    ),
    Alert(
        "OutboxParked",
        "ticket",
        "outbox",
        lambda _: "max(symphony_outbox_parked_rows) > 0",
        MINUTE_S,
        "{{ $value }} outbox rows are parked",
        "Kafka refused them, and nobody publishes them until an operator acts.",
        "the-outbox-grows",
    ),
)

DATABASE_ALERTS = (
    Alert(
        "DatabaseSlow",
        "page",
        "database",
        lambda _: "symphony:db_round_trip_seconds:p95_rate5m > 2",
        3 * MINUTE_S,
        "PostgreSQL is slow for role {{ $labels.role }}: p95 {{ $value | humanizeDuration }}",
        "5 % of the statements of role {{ $labels.role }} take longer than two seconds.",
        "postgresql-is-away-or-out-of-connections",
    ),
    Alert(
        "DatabasePoolBusy",
        "ticket",
        "database",
        lambda s: (
            quantile(0.95, "symphony_db_acquire_seconds", s.window(5 * MINUTE_S), "role", "worker")
            + " > 0.5"
        ),
        5 * MINUTE_S,
        "{{ $labels.worker }} waits for database connections",
        "5 % of the requests for a connection of {{ $labels.worker }}'s pool take longer than half"
        " a second.",
        "postgresql-is-away-or-out-of-connections",
        symptom=True,
    ),
    Alert(
        "DatabaseConnections",
        "page",
        "database",
        lambda _: (
            "sum(max by (state) (symphony_postgres_connections))"
            " / max(symphony_postgres_connections_max) > 0.8"
        ),
        2 * MINUTE_S,
        "{{ $value | humanizePercentage }} of PostgreSQL's connections are in use",
        "When none is left, workers hold their batches and the API answers 503.",
        "postgresql-is-away-or-out-of-connections",
    ),
    Alert(
        "DatabaseLongTransaction",
        "ticket",
        "database",
        lambda s: f"max(symphony_postgres_transaction_oldest_seconds) > {s.pick(300, 10)}",
        MINUTE_S,
        "A transaction has been open for {{ $value | humanizeDuration }}",
        "It holds locks, and keeps PostgreSQL from removing old rows.",
        "postgresql-is-away-or-out-of-connections",
    ),
)

OTHER_ALERTS = (
    Alert(
        "CensusOld",
        "ticket",
        "observability",
        lambda s: (
            f"absent(symphony_census_age_seconds)\nor max by (source) (symphony_census_age_seconds)"
            f" > {s.pick(60, 15)}"
        ),
        2 * MINUTE_S,
        "Backlogs, sagas and connections are not counted",
        "The census of role slo is absent or old: lag, outbox, dead letters, sagas and PostgreSQL"
        " show nothing or the past.",
        "an-slo-has-no-data",
        on_no_data=True,
    ),
    Alert(
        "StockCritical",
        "ticket",
        "stock",
        lambda _: 'max(symphony_stock_low_products{level="critical"}) > 0',
        MINUTE_S,
        "{{ $value }} products are nearly sold out",
        "Fewer than ten units are left of each.",
        "stock-is-critical",
    ),
    Alert(
        "ChaosOutsideGameDay",
        "ticket",
        "chaos",
        lambda _: (
            "max by (fault) (symphony_fault_active) > 0\nand on () max(symphony_gameday_phase) == 0"
        ),
        5 * MINUTE_S,
        "{{ $labels.fault }} is in force, and there is no GameDay",
        "A fault of the laboratory strikes outside of any GameDay: meant, or forgotten?",
        "a-fault-of-the-laboratory-seems-to-be-still-on",
    ),
    Alert(
        "ChaosWithoutEffect",
        "ticket",
        "chaos",
        _no_effect,
        5 * MINUTE_S,
        "The chaos rule {{ $labels.fault }} strikes nothing",
        "It is in force, and nothing came by that it could strike: it proves nothing.",
        "a-chaos-rule-strikes-nothing",
    ),
)
