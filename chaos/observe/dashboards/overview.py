"""Is the platform well? Golden signals: traffic, errors, latency, saturation."""

from __future__ import annotations

from chaos.observe.dashboards.limits import API_ERRORS, API_P95_S, BURN, LAG_S, LOOP_S, NONE
from chaos.observe.panels import RATE, Dashboard, Limit, Panel, Query, Row
from chaos.observe.stores import SERVICE

FAULTS_IN_FORCE = (
    "count(max by (fault) (symphony_fault_active) > 0) or max(symphony_worker_info) * 0"
)
"""A worker that never had a fault does not expose the gauge: 0 needs a worker that answers."""

OVERVIEW = Dashboard(
    "overview",
    "Overview",
    "The golden signals of the whole platform, what is burning, and what is broken on purpose.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Alerts that fire",
                    "Pages and tickets. Each leads to an entry of the runbook.",
                    "short",
                    (Query('sum(ALERTS{alertstate="firing"}) or vector(0)', "alerts"),),
                    "stat",
                    NONE,
                    4,
                ),
                Panel(
                    "Worst burn rate, 1 h",
                    "How many times as fast as allowed the worst SLO spends its error budget."
                    " No data is unknown, not healthy.",
                    "short",
                    (Query('max(symphony:slo_burn_rate:max{window="1h"})', "burn rate"),),
                    "stat",
                    BURN,
                    4,
                ),
                Panel(
                    "Orders accepted",
                    "Accepted orders per second.",
                    "ops",
                    (Query(f'sum(rate(symphony_api_orders_total{{outcome="accepted"}}[{RATE}]))'),),
                    "stat",
                    width=4,
                ),
                Panel(
                    "Orders under way",
                    "Sagas that are not over.",
                    "short",
                    (Query("sum(max by (state) (symphony_saga_active))"),),
                    "stat",
                    width=4,
                ),
                Panel(
                    "Faults in force",
                    "Kinds of faults of the laboratory that strike now; 0 is said by workers.",
                    "short",
                    (Query(FAULTS_IN_FORCE, "faults"),),
                    "stat",
                    NONE,
                    4,
                ),
                Panel(
                    "Workers that answer",
                    "Share of the known workers that answer their scrape.",
                    "percentunit",
                    (Query('avg(up{role!=""})', "workers"),),
                    "stat",
                    Limit(1.0, below=True),
                    4,
                ),
            ),
        ),
        Row(
            "Traffic and errors",
            (
                Panel(
                    "Requests",
                    "Requests per second by status.",
                    "reqps",
                    (
                        Query(
                            f"sum by (status) (rate(symphony_http_requests_total[{RATE}]))",
                            "{{status}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Orders that end",
                    "Sagas that reach a final state, per second.",
                    "ops",
                    (
                        Query(
                            f"sum by (state) (rate(symphony_saga_finished_total[{RATE}]))",
                            "{{state}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Failed requests",
                    "Share of requests answered with 5xx; over the line the alert ApiErrors fires.",
                    "percentunit",
                    (Query("symphony:http_errors:ratio_rate5m", "5xx"),),
                    limit=API_ERRORS,
                ),
            ),
        ),
        Row(
            "Latency",
            (
                Panel(
                    "Requests, p95",
                    "95 % of the requests are answered within this.",
                    "s",
                    (Query("symphony:http_request_seconds:p95_rate5m", "p95"),),
                    limit=API_P95_S,
                ),
                Panel(
                    "Waiting in topics",
                    "Age of the oldest record that a role has not finished.",
                    "s",
                    (Query("max by (role) (symphony_consumer_lag_seconds)", "{{role}}"),),
                    limit=LAG_S,
                ),
                Panel(
                    "Payment provider, p95",
                    "95 % of the calls take at most this.",
                    "s",
                    (Query("symphony:gateway_call_seconds:p95_rate5m", "{{operation}}"),),
                ),
            ),
        ),
        Row(
            "Saturation",
            (
                Panel(
                    "Event loops, p99",
                    "How late tasks wake up: a worker without time.",
                    "s",
                    (Query("symphony:event_loop_delay_seconds:p99_rate5m", "{{worker}}"),),
                    limit=LOOP_S,
                ),
                Panel(
                    "CPU",
                    "Cores in use by worker.",
                    "short",
                    (
                        Query(
                            f"sum by (worker) (rate(symphony_process_cpu_seconds_total[{RATE}]))",
                            "{{worker}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    "Memory",
                    "Resident memory by worker.",
                    "bytes",
                    (
                        Query(
                            "max by (worker) (symphony_process_resident_memory_bytes)", "{{worker}}"
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Logs",
            (
                Panel(
                    "Warnings and errors",
                    "What workers say; a trace id leads to the trace.",
                    "short",
                    (Query(f'{{service_name="{SERVICE}"}} | severity_text =~ "WARN|ERROR|FATAL"'),),
                    "logs",
                    width=24,
                ),
            ),
        ),
    ),
)
