"""The declaration of all settings: type, unit, default, bounds and what must hold between them.

`app.settings` loads them and is what others import; this module reads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.topics import DAY_S, DEAD_LETTER_RETENTION_S, RETRY_TIERS_S

WEB_POOL_MAX = 6


def _setting(
    group: str, default: Any, unit: str, description: str, *, production: Any = None, **bounds: Any
) -> Any:
    """A field of `Settings`; `production` is its default under that profile when it differs."""
    extra = {"group": group, "unit": unit, "production": production}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class Settings(BaseSettings):
    """One worker's settings. Made by `load_settings`; made directly, nothing else is read."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    profile: Literal["lab", "production"] = _setting(
        "worker", "lab", "name", "which defaults apply where nothing is set: lab or production"
    )
    namespace: str = _setting(
        "worker",
        "symphony",
        "name",
        "prefix of consumer groups and changelog topics: <namespace>-<role>",
        pattern=r"^[a-z][a-z0-9-]{0,30}$",
    )
    role: str = _setting(
        "worker", "", "name", "what this worker does; see `symphony worker --help`"
    )
    worker_id: str = _setting(
        "worker", "", "name", "name of this worker, unique in its role; default <role>-1"
    )
    incarnation: str = _setting(
        "worker", "", "name", "this start of the worker; set by the supervisor"
    )
    lab: bool = _setting("worker", False, "flag", "allow plug-ins, failpoints and lab-only roles")
    plugins: str = _setting(
        "worker", "", "modules, comma separated", "installed at start by install(app); lab only"
    )
    failpoints: str = _setting(
        "worker", "", "rules", "failpoints to arm at start, for the injector; lab only"
    )
    worker_seen_interval_s: float = _setting(
        "worker", 2, "s", "how often a worker gives a sign of life in PostgreSQL", gt=0
    )
    data_dir: Path = _setting(
        "worker", Path(".lab/data"), "path", "where tables are kept, below <worker id>"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "worker", "info", "name", "debug, info, warning or error"
    )
    log_format: Literal["auto", "json", "human"] = _setting(
        "worker", "auto", "name", "json, human, or auto: human on a terminal"
    )

    trace_exporter: Literal["none", "otlp", "file"] = _setting(
        "traces", "none", "name", "where spans go: none, otlp (a collector) or file (trace_dir)"
    )
    trace_endpoint: str = _setting(
        "traces",
        "http://127.0.0.1:4318/v1/traces",
        "URL",
        "of the collector, OTLP over HTTP",
        pattern=r"^https?://.+",
    )
    trace_dir: Path = _setting(
        "traces", Path(".lab/traces"), "path", "of exporter file: one file a start of a worker"
    )
    trace_sample_ratio: float = _setting(
        "traces",
        1.0,
        "share",
        "traces that begin here and are recorded; others do as their beginning says",
        production=0.05,
        ge=0,
        le=1,
    )
    trace_queue_max: int = _setting(
        "traces", 8192, "count", "spans that wait for the exporter, the oldest are dropped", ge=2
    )
    trace_batch_max: int = _setting("traces", 512, "count", "spans handed on at once", ge=1)
    trace_interval_s: float = _setting(
        "traces", 1, "s", "spans wait at most so long for others", gt=0, le=60
    )
    trace_timeout_s: float = _setting(
        "traces", 2, "s", "one request to the collector, and the last one at the end", gt=0, le=60
    )
    trace_file_max_mb: int = _setting(
        "traces", 32, "MB", "what one start of a worker may write, its newest spans", ge=1
    )
    trace_dir_max_mb: int = _setting(
        "traces", 512, "MB", "what all may; a worker that starts deletes the oldest beyond", ge=1
    )

    broker_bootstrap: str = _setting(
        "addresses",
        "127.0.0.1:9092",
        "host:port, comma separated",
        "Kafka brokers to start from",
        pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$",
    )
    postgres_dsn: SecretStr = _setting(
        "addresses",
        SecretStr("postgresql://symphony@127.0.0.1:5432/symphony"),
        "URL",
        "the database; the password is never printed",
    )
    gateway_url: str = _setting(
        "addresses", "http://127.0.0.1:8090", "URL", "payment gateway", pattern=r"^https?://.+"
    )
    web_host: str = _setting("addresses", "127.0.0.1", "address", "where role web listens")
    web_port: int = _setting("addresses", 8080, "port", "where role web listens", ge=1, le=65535)
    health_host: str = _setting(
        "addresses", "127.0.0.1", "address", "where /livez /readyz /status /metrics are served"
    )
    health_port: int = _setting("addresses", 0, "port", "the same; 0 = not", ge=0, le=65535)

    topic_partitions: int = _setting(
        "topics",
        4,
        "count",
        "partitions of every keyed saga topic, fixed at creation",
        ge=1,
        le=512,
    )
    topic_replicas: int = _setting("topics", 1, "count", "copies of every partition", ge=1, le=9)

    outage_budget_s: float = _setting(
        "delivery", 120, "s", "a batch held longer ends the worker", production=600, gt=0
    )
    drain_grace_s: float = _setting(
        "delivery", 8, "s", "time a running step has at revocation or stop", production=20, gt=0
    )
    watchdog_no_progress_s: float = _setting(
        "delivery", 30, "s", "work without progress for longer ends the worker", production=90, gt=0
    )
    watchdog_loop_silent_s: float = _setting(
        "delivery", 10, "s", "an event loop silent for longer ends the worker", production=30, gt=0
    )
    session_timeout_s: float = _setting(
        "delivery", 10, "s", "a member silent for longer is dead to Kafka", production=20, ge=1
    )
    heartbeat_interval_s: float = _setting(
        "delivery", 1, "s", "how often a member says it lives", production=3, gt=0
    )
    rebalance_timeout_s: float = _setting(
        "delivery", 12, "s", "how long members have to join a rebalance", production=30, gt=0
    )
    lease_margin_s: float = _setting(
        "delivery", 1, "s", "a lease ends this long before the session does", gt=0
    )
    request_timeout_s: float = _setting("delivery", 30, "s", "one request to a broker", gt=0)
    producer_request_timeout_s: float = _setting(
        "delivery", 150, "s", "how long a send may be retried", production=650, gt=0
    )
    metadata_max_age_s: float = _setting(
        "delivery", 10, "s", "how old knowledge of topics and leaders may be", gt=0
    )
    commit_interval_s: float = _setting(
        "delivery", 0.5, "s", "offsets are committed so often", gt=0
    )
    commit_every_records: int = _setting(
        "delivery", 2000, "count", "or after so many records, whichever is first", ge=1
    )
    max_batch_records: int = _setting(
        "delivery", 200, "count", "records in one step at most", ge=1, le=5000
    )
    fetch_pace_ms: int = _setting(
        "delivery", 15, "ms", "least time between two polls", ge=1, le=10_000
    )
    fetch_busy_pace_ms: int = _setting(
        "delivery", 130, "ms", "the same when steps follow each other closely", ge=1, le=10_000
    )
    fetch_max_wait_ms: int = _setting(
        "delivery", 200, "ms", "how long a poll waits for a first record", ge=1, le=1000
    )
    prefetch_backoff_ms: int = _setting(
        "delivery", 5, "ms", "pause of the fetcher when it has enough", ge=1, le=1000
    )
    tick_interval_s: float = _setting(
        "delivery", 1, "s", "how often due work of a partition is looked for", gt=0
    )
    rewind_timeout_s: float = _setting(
        "delivery", 120, "s", "a rewind fails when its group is not empty by then", gt=0
    )
    killer_ends_max: int = _setting(
        "delivery", 3, "count", "a record that ends its worker so often is dead-lettered", ge=2
    )
    killer_window_s: float = _setting(
        "delivery", 600, "s", "ends older than this no longer count", gt=0
    )
    table_store: Literal["rocksdb", "memory"] = _setting(
        "delivery", "rocksdb", "name", "where tables are kept: rocksdb or memory"
    )
    table_entry_retention_s: float = _setting(
        "delivery", 900, "s", "finished entries leave the tables after", production=3600, gt=0
    )
    retry_tiers_s: str = _setting(
        "delivery",
        "1,5,30",
        "s, comma separated",
        "retry tiers that failures climb, of 1, 5 and 30; all are read whatever stands here",
        pattern=r"^\d+(,\d+)*$",
    )
    retry_attempts_max: int = _setting(
        "delivery", 4, "count", "tries of one record before it is dead-lettered", ge=1, le=100
    )

    dead_letters_max: int = _setting(
        "delivery",
        1000,
        "count",
        "dead letters of a consumer within the window, in one worker; more stop it in all",
        ge=1,
        le=100_000,
    )
    dead_letters_window_s: float = _setting(
        "delivery", 60, "s", "the window in which dead letters are counted", gt=0
    )

    step_deadline_s: float = _setting(
        "saga", 10, "s", "a step without a reply for longer is re-driven", production=600, gt=0
    )
    redrives_max: int = _setting(
        "saga", 3, "count", "re-drives of a step before it is compensated", ge=0, le=100
    )
    compensation_attempts_max: int = _setting(
        "saga", 5, "count", "compensations before the saga is PARKED", production=10, ge=1, le=1000
    )
    redrive_rate_per_s: float = _setting(
        "saga", 50, "1/s", "re-drives of one partition at most (token bucket)", gt=0
    )
    saga_idle_redrive_s: float = _setting(
        "saga", 30, "s", "a saga without transition for longer is reloaded from PostgreSQL", gt=0
    )

    db_pool_max: int = _setting(
        "database", 2, "count", "connections at most; role web: 6", ge=1, le=100
    )
    db_connect_timeout_s: float = _setting("database", 5, "s", "one attempt to connect", gt=0)
    db_statement_timeout_s: float = _setting("database", 5, "s", "one statement", gt=0)
    db_lock_timeout_s: float = _setting("database", 3, "s", "waiting for one lock", gt=0)
    db_retries_max: int = _setting(
        "database", 5, "count", "repeats of a transaction lost to a conflict", ge=0, le=100
    )

    gateway_deadline_s: float = _setting("gateway", 6, "s", "one call with its retries", gt=0)
    gateway_attempt_timeout_s: float = _setting("gateway", 2, "s", "one HTTP request", gt=0)
    gateway_attempts_max: int = _setting(
        "gateway", 2, "count", "HTTP requests per call", ge=1, le=10
    )
    gateway_concurrency_max: int = _setting(
        "gateway", 64, "count", "calls at the same time in one worker", ge=1, le=1000
    )
    breaker_failures_max: int = _setting(
        "gateway", 5, "count", "failures in a row that open the breaker", ge=1, le=1000
    )
    breaker_open_s: float = _setting(
        "gateway", 5, "s", "an open breaker lets a probe through after", production=30, gt=0
    )

    payment_auto_redrive: bool = _setting(
        "gateway",
        False,
        "flag",
        "when the breaker closes, redrive the charges that its outage dead-lettered",
    )
    payment_auto_redrives_max: int = _setting(
        "gateway", 2, "count", "times that one command is redriven by itself", ge=1, le=100
    )
    payment_auto_redrive_rate_per_s: int = _setting(
        "gateway", 20, "1/s", "dead letters redriven by themselves at most", ge=1, le=1000
    )
    payment_auto_redrive_delay_s: float = _setting(
        "gateway", 3, "s", "pause between the closing and each of a few looks for letters", gt=0
    )
    payment_auto_redrive_letters_max: int = _setting(
        "gateway", 5000, "count", "dead letters of one such job, the oldest", ge=1, le=50_000
    )
    payment_variant: Literal["stable", "slow", "faulty", "declining"] = _setting(
        "gateway",
        "stable",
        "name",
        "version of the payment code that role payment-canary runs; not stable: lab only",
    )

    canary_auto: bool = _setting(
        "canary", True, "flag", "roll back and promote by the figures, unless the request says"
    )
    canary_interval_s: float = _setting(
        "canary", 2, "s", "how often the canary is judged", production=10, gt=0
    )
    canary_window_s: float = _setting(
        "canary", 15, "s", "charges of one window are compared", production=120, ge=1
    )
    canary_samples_min: int = _setting(
        "canary", 20, "count", "charges of each arm that a window needs", production=100, ge=1
    )
    canary_samples_max: int = _setting(
        "canary", 2000, "count", "charges of each arm that are read, the newest", ge=10, le=100_000
    )
    canary_error_margin: float = _setting(
        "canary", 0.02, "share", "how much more often a charge may fail than at stable", ge=0, le=1
    )
    canary_decline_margin: float = _setting(
        "canary", 0.05, "share", "how much more often a card may be declined", ge=0, le=1
    )
    canary_p95_factor: float = _setting(
        "canary", 2, "factor", "how much slower than stable's the 95th percentile may be", ge=1
    )
    canary_p95_margin_ms: float = _setting("canary", 300, "ms", "and beyond that", ge=0, le=600_000)
    canary_rollback_windows: int = _setting(
        "canary", 2, "count", "windows in a row that are worse end the canary", ge=1, le=20
    )
    canary_promote_windows: int = _setting(
        "canary", 8, "count", "windows in a row that are healthy promote it", ge=1, le=100
    )
    canary_promotion: Literal["keep", "full"] = _setting(
        "canary", "keep", "name", "a promoted canary keeps its share, or gets all orders"
    )

    notification_sink: Literal["log", "file", "smtp"] = _setting(
        "notification", "log", "name", "where notifications go: log, file or smtp"
    )
    notification_file: Path = _setting(
        "notification", Path(".lab/notifications.jsonl"), "path", "of sink file; only appended to"
    )
    notification_smtp_host: str = _setting(
        "notification", "127.0.0.1", "address", "mail server of sink smtp"
    )
    notification_smtp_port: int = _setting("notification", 25, "port", "the same", ge=1, le=65535)
    notification_smtp_connections: int = _setting(
        "notification", 32, "count", "mails of sink smtp sent at the same time", ge=1, le=1000
    )
    notification_from: str = _setting(
        "notification", "shop@localhost", "mail address", "sender", pattern=r"^[^\s@]+@[^\s@]+$"
    )
    notification_to: str = _setting(
        "notification",
        "operators@localhost",
        "mail address",
        "who gets all mail of sink smtp",
        pattern=r"^[^\s@]+@[^\s@]+$",
    )
    notification_timeout_s: float = _setting(
        "notification", 2, "s", "one hand-over to the sink", gt=0, le=60
    )
    notification_delay_ms: int = _setting(
        "notification", 0, "ms", "makes every hand-over slower, to see a backlog", ge=0, le=1000
    )

    api_body_max_bytes: int = _setting("api", 65536, "bytes", "largest request body", ge=1024)
    api_items_max: int = _setting("api", 100, "count", "items of one order", ge=1, le=1000)
    api_batch_max: int = _setting("api", 64, "count", "orders written in one transaction", ge=1)
    api_batch_pace_ms: float = _setting(
        "api", 20, "ms", "least time from one batch's start to the next", ge=0, le=1000
    )
    api_writers: int = _setting("api", 2, "count", "transactions at the same time", ge=1, le=64)
    api_queue_max: int = _setting("api", 2000, "count", "waiting writes, more get 503", ge=1)
    api_queue_wait_max_ms: float = _setting(
        "api",
        2500,
        "ms",
        "longest wait for a writer, by the pace of late; who would wait longer gets 503",
        production=250,
        gt=0,
    )
    api_concurrency_max: int = _setting(
        "api", 200, "count", "requests at once besides new orders, more get 503", ge=1
    )
    api_request_timeout_s: float = _setting("api", 5, "s", "one request", gt=0)
    api_idempotency_retention_h: int = _setting(
        "api", 168, "h", "an Idempotency-Key is remembered for", ge=1
    )

    control_timeout_s: float = _setting(
        "control", 2, "s", "one change of a control topic, or one acknowledgement", gt=0
    )
    control_heartbeat_s: float = _setting(
        "control", 5, "s", "how often a worker repeats what it has in force", gt=0
    )
    control_ack_wait_s: float = _setting(
        "control", 2.5, "s", "how long a change waits for the workers to say they have it", gt=0
    )

    fraud_checks: bool = _setting(
        "fraud", True, "flag", "score new orders, and hold or reject suspicious ones"
    )
    fraud_total_high: int = _setting(
        "fraud", 1000, "major units of the currency", "a total above scores and is reviewed", ge=1
    )
    fraud_total_higher: int = _setting(
        "fraud", 2000, "major units of the currency", "from this total on it scores more", ge=1
    )
    fraud_total_highest: int = _setting(
        "fraud", 5000, "major units of the currency", "from this total on it scores most", ge=1
    )
    fraud_total_high_points: int = _setting(
        "fraud", 20, "points", "for a total above fraud_total_high", ge=0, le=100
    )
    fraud_total_higher_points: int = _setting(
        "fraud", 35, "points", "for a total from fraud_total_higher on", ge=0, le=100
    )
    fraud_total_highest_points: int = _setting(
        "fraud", 50, "points", "for a total from fraud_total_highest on", ge=0, le=100
    )
    fraud_velocity_window_min: int = _setting(
        "fraud", 60, "min", "a customer's earlier orders count for so long", ge=1, le=10_080
    )
    fraud_velocity_max: int = _setting(
        "fraud", 5, "count", "so many earlier orders score fully, half of them half", ge=1, le=1000
    )
    fraud_velocity_half_points: int = _setting(
        "fraud", 20, "points", "for half of fraud_velocity_max", ge=0, le=100
    )
    fraud_velocity_max_points: int = _setting(
        "fraud", 40, "points", "for fraud_velocity_max or more", ge=0, le=100
    )
    fraud_round_total: int = _setting(
        "fraud", 50, "major units of the currency", "multiples of this are round totals", ge=1
    )
    fraud_round_points: int = _setting("fraud", 15, "points", "for a round total", ge=0, le=100)
    fraud_night_from_h: int = _setting("fraud", 1, "h, UTC", "the night's first hour", ge=0, le=23)
    fraud_night_to_h: int = _setting("fraud", 5, "h, UTC", "the night's last hour", ge=0, le=23)
    fraud_night_points: int = _setting("fraud", 10, "points", "for the night", ge=0, le=100)
    fraud_review_score: int = _setting(
        "fraud", 70, "points", "from this score on a person reviews the order", ge=1
    )
    fraud_reject_score: int = _setting(
        "fraud", 90, "points", "from this score on the order is rejected; above 100: never", ge=1
    )

    slo_time_scale: float = _setting(
        "service levels", 1, "factor",
        "windows of service levels are so much shorter than their names; GameDays: 60; never change"
        " it while panes are kept", ge=1, le=600,
    )  # fmt: skip
    slo_skew_max_s: float = _setting(
        "service levels", 5, "s", "an event from further in the future counts as of its arrival",
        ge=0, le=3600,
    )  # fmt: skip
    slo_progress_interval_s: float = _setting(
        "service levels", 2, "s", "how often role slo tells how far it has read", gt=0, le=60
    )
    slo_snapshot_interval_s: float = _setting(
        "service levels", 2, "s", "how often role slo judges the objectives for metrics and log",
        gt=0, le=60,
    )  # fmt: skip
    slo_stale_after_s: float = _setting(
        "service levels", 20, "s", "figures older than this are unknown, the census' too", gt=0
    )
    slo_burn_bad_events_min: int = _setting(
        "service levels", 3, "count",
        "no alert on an error budget fires for fewer bad events in its long window", ge=1, le=1000,
    )  # fmt: skip
    slo_cache_s: float = _setting(
        "service levels", 1, "s", "a web worker answers from one read for so long", ge=0, le=60
    )

    relay_batch_max: int = _setting("relay", 500, "count", "rows published at once", ge=1, le=5000)
    relay_poll_ms: int = _setting("relay", 50, "ms", "pause after an empty look", ge=1)
    relay_lease_ttl_s: float = _setting("relay", 8, "s", "a shard's lease without renewal", gt=0)
    relay_lease_renew_s: float = _setting("relay", 2, "s", "how often a lease is renewed", gt=0)

    chaos_rule_ttl_max_s: float = _setting(
        "chaos", 3600, "s", "longest lease that a chaos rule may have", gt=0
    )
    chaos_rules_max: int = _setting(
        "chaos", 50, "count", "chaos rules in force at the same time", ge=1, le=1000
    )
    chaos_share_max: float = _setting(
        "chaos", 1.0, "share", "largest share of keys that one chaos rule may strike", gt=0, le=1
    )
    chaos_switch_poll_s: float = _setting(
        "chaos", 0.5, "s", "how often a worker looks at the kill switch", gt=0, le=60
    )
    chaos_report_interval_s: float = _setting(
        "chaos", 1, "s", "how often a worker tells the hits of its rules", gt=0, le=60
    )
    dlq_poll_ms: int = _setting("dead letters", 500, "ms", "pause between looks for jobs", ge=10)
    dlq_batch_max: int = _setting(
        "dead letters", 500, "count", "letters sent back or emptied at once", ge=1, le=5000
    )
    dlq_rate_per_s: int = _setting(
        "dead letters", 500, "1/s", "letters a job sends where nothing else is asked for", ge=1
    )
    dlq_rate_max_per_s: int = _setting(
        "dead letters", 5000, "1/s", "the highest rate that may be asked for", ge=1
    )
    dlq_lease_ttl_s: float = _setting(
        "dead letters", 10, "s", "a dead worker's job is taken over after", gt=0
    )
    dlq_list_max: int = _setting(
        "dead letters", 100, "count", "letters, groups or jobs of one answer", ge=1, le=1000
    )
    dlq_dry_run_max: int = _setting(
        "dead letters", 500, "count", "verdicts of one dry run", ge=1, le=5000
    )
    dlq_shown_max_bytes: int = _setting(
        "dead letters", 8192, "bytes", "of a payload or header shown", ge=64
    )
    dlq_retention_days: int = _setting(
        "dead letters",
        0,
        "days",
        "settled letters leave the index, and ended jobs their list, after; 0: never",
        production=90,
        ge=0,
        le=36_500,
    )

    census_interval_s: float = _setting(
        "observability", 5, "s", "pause between two rounds of role slo's census", gt=0, le=300
    )
    census_timeout_s: float = _setting(
        "observability", 4, "s", "one round of it, for Kafka and for PostgreSQL", gt=0, le=60
    )
    metrics_aliases: bool = _setting(
        "observability",
        True,
        "flag",
        "serve the metric names of the reference systems as well",
        production=False,
    )

    operator: str = _setting(
        "lab",
        "",
        "name",
        "who acts at the command line, for the audit log; empty: the login name",
        max_length=100,
    )
    lab_dir: Path = _setting("lab", Path(".lab"), "path", "all files of the embedded lab")
    lab_disk_max_mb: int = _setting(
        "lab", 4096, "MB", "the lab stops working beyond so much data", ge=64
    )
    lab_ready_timeout_s: float = _setting(
        "lab", 180, "s", "`symphony up` gives up when not everything is ready by then", gt=0
    )
    broker_kind: Literal["embedded", "external"] = _setting(
        "lab", "embedded", "name", "embedded, or external at broker_bootstrap"
    )
    postgres_kind: Literal["embedded", "external"] = _setting(
        "lab", "embedded", "name", "embedded, or external at postgres_dsn"
    )
    lab_proxy: bool = _setting(
        "lab", False, "flag", "put the TCP proxy between the workers and their servers"
    )
    lab_observe: bool = _setting(
        "lab", False, "flag", "start Prometheus and Alertmanager with the lab"
    )
    lab_slo_time_scale: float = _setting(
        "lab", 60, "factor", "slo_time_scale of the lab's workers; its generated rules are for 60",
        ge=1, le=600,
    )  # fmt: skip
    observe_bin_dir: str = _setting(
        "lab", "", "path", "where Prometheus' programs are; empty: PATH, then those of make observe"
    )
    observe_rules_dir: str = _setting(
        "lab", "", "path", "rule files (*.yml) of the lab's Prometheus; empty: the generated ones"
    )
    observe_scrape_interval_s: float = _setting(
        "lab", 1, "s",
        "how often the lab's Prometheus asks workers and rules; at most 2 for the generated rules",
        ge=0.1, le=60,
    )  # fmt: skip
    observe_retention_h: float = _setting(
        "lab", 24, "h", "how long the lab's Prometheus keeps what it saw", ge=1
    )
    observe_disk_max_mb: int = _setting("lab", 512, "MB", "its files; the oldest go first", ge=64)
    observe_memory_max_mb: int = _setting(
        "lab", 256, "MB", "what each of the two tries to stay below", ge=64
    )
    observe_samples_max: int = _setting(
        "lab", 20_000, "count", "samples of one scrape; a worker that has more is not read", ge=100
    )
    restart_backoff_max_s: float = _setting(
        "lab", 5, "s", "longest pause before a dead worker is started again", gt=0
    )
    stop_grace_s: float = _setting(
        "lab", 12, "s", "SIGKILL follows SIGTERM after", production=30, gt=0
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values only: `load_settings` merges the sources, because it tells where each is from."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Defaults that depend on other settings: those of the profile, and the worker's name."""
        derived = dict(values)
        if derived.get("profile") == "production":
            for name, value in PRODUCTION_DEFAULTS.items():
                derived.setdefault(name, value)
        if derived.get("role") and not derived.get("worker_id"):
            derived["worker_id"] = f"{derived['role']}-1"
        if derived.get("role") == "web":
            # Readers must not queue behind the order writers.
            derived.setdefault("db_pool_max", WEB_POOL_MAX)
        return derived

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Relations between settings that correctness rests on."""
        for smaller, larger, reason in _ORDERED:
            if not getattr(self, smaller) < getattr(self, larger):
                raise ValueError(
                    f"{smaller} ({getattr(self, smaller):g}) must be below"
                    f" {larger} ({getattr(self, larger):g}): {reason}"
                )
        if not self.watchdog_no_progress_s > self.rebalance_timeout_s + self.drain_grace_s:
            raise ValueError(
                "watchdog_no_progress_s must exceed rebalance_timeout_s + drain_grace_s:"
                " otherwise a rebalance ends innocent workers"
            )
        tiers = self.retry_tiers
        if len(set(tiers)) < len(tiers) or not set(tiers) <= set(RETRY_TIERS_S):
            raise ValueError(
                f"retry_tiers_s ({self.retry_tiers_s}) must name delays of retry tiers, each once:"
                f" {', '.join(map(str, RETRY_TIERS_S))}"
            )
        rounds = -(-self.max_batch_records // self.gateway_concurrency_max)
        slow_s = rounds * self.notification_delay_ms / 1000
        if self.notification_delay_ms and not slow_s < self.gateway_deadline_s:
            raise ValueError(
                f"notification_delay_ms makes a batch take {slow_s:g} s, and gateway_deadline_s"
                " ends it: lower it or max_batch_records, or raise gateway_concurrency_max"
            )
        if 0 < self.dlq_retention_days <= DEAD_LETTER_RETENTION_S // DAY_S:
            raise ValueError(
                f"dlq_retention_days ({self.dlq_retention_days}) must be 0 or above"
                f" {DEAD_LETTER_RETENTION_S // DAY_S}: the dead-letter topics keep their records so"
                " long, and the index tells what became of each"
            )
        if (self.plugins or self.failpoints) and not self.lab:
            raise ValueError("plugins and failpoints are allowed in a lab only: set lab = true")
        if self.payment_variant != "stable" and not self.lab:
            raise ValueError("payment_variant is for a lab: set lab = true, or leave it stable")
        return self

    @property
    def plugin_modules(self) -> tuple[str, ...]:
        """`plugins` as module names."""
        return tuple(name.strip() for name in self.plugins.split(",") if name.strip())

    @property
    def retry_tiers(self) -> tuple[int, ...]:
        """`retry_tiers_s` as delays in seconds, ascending."""
        return tuple(sorted(int(delay) for delay in self.retry_tiers_s.split(",")))


_ORDERED = (
    ("heartbeat_interval_s", "session_timeout_s", "a member must be heard within its session"),
    ("lease_margin_s", "session_timeout_s", "the lease fence ends before the session"),
    ("drain_grace_s", "rebalance_timeout_s", "a step must end before the rebalance does"),
    ("gateway_deadline_s", "drain_grace_s", "a call must end within the drain grace"),
    ("session_timeout_s", "request_timeout_s", "a join may take as long as a session"),
    ("outage_budget_s", "producer_request_timeout_s", "an outage must not fail single sends"),
    ("dlq_rate_per_s", "dlq_rate_max_per_s", "a job may not be faster than the highest rate"),
    ("relay_lease_renew_s", "relay_lease_ttl_s", "a lease is renewed before it ends"),
    ("drain_grace_s", "stop_grace_s", "SIGKILL must not interrupt a draining worker"),
    ("control_ack_wait_s", "api_request_timeout_s", "the answer must come within the request"),
    ("fraud_total_high", "fraud_total_higher", "a higher total scores more"),
    ("fraud_total_higher", "fraud_total_highest", "a higher total scores more"),
    ("trace_batch_max", "trace_queue_max", "a batch must fit into the queue"),
    ("fraud_review_score", "fraud_reject_score", "what is worse than suspicious is rejected"),
)


def extra_of(name: str) -> dict[str, Any]:
    """Group, unit and production default of a setting."""
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra


PRODUCTION_DEFAULTS: Mapping[str, Any] = {
    name: extra_of(name)["production"]
    for name in Settings.model_fields
    if extra_of(name)["production"] is not None
}
