"""The HTTP API: what clients ask, how long it takes, what is refused."""

from __future__ import annotations

from chaos.observe.dashboards.limits import API_ERRORS, API_P95_S, NONE
from chaos.observe.panels import RATE, Dashboard, Panel, Query, Row
from chaos.observe.promql import quantile

REQUESTS = "symphony_http_requests_total"
SECONDS = "symphony_http_request_duration_seconds"

API = Dashboard(
    "api",
    "Gateway API",
    "Requests, errors and latency of role web, and how it protects itself.",
    (
        Row(
            "Requests",
            (
                Panel(
                    "By route",
                    "Per second.",
                    "reqps",
                    (
                        Query(
                            f"sum by (method, route) (rate({REQUESTS}[{RATE}]))",
                            "{{method}} {{route}}",
                        ),
                    ),
                ),
                Panel(
                    "By status",
                    "Per second.",
                    "reqps",
                    (Query(f"sum by (status) (rate({REQUESTS}[{RATE}]))", "{{status}}"),),
                    stacked=True,
                ),
                Panel(
                    "Failed",
                    "Share answered with 5xx; over the line ApiErrors fires.",
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
                    "All requests",
                    "Quantiles; the line is the threshold of ApiSlow for the p95.",
                    "s",
                    tuple(
                        Query(quantile(q, SECONDS, RATE), f"p{q * 100:g}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                    limit=API_P95_S,
                    exemplars=True,
                ),
                Panel(
                    "By route, p95",
                    "Which route is slow.",
                    "s",
                    (
                        Query(
                            quantile(0.95, SECONDS, RATE, "method", "route"), "{{method}} {{route}}"
                        ),
                    ),
                    width=16,
                ),
            ),
        ),
        Row(
            "Orders",
            (
                Panel(
                    "Accepted and replayed",
                    "Per second; replayed ones repeat an Idempotency-Key.",
                    "ops",
                    (
                        Query(
                            f"sum by (outcome) (rate(symphony_api_orders_total[{RATE}]))",
                            "{{outcome}}",
                        ),
                    ),
                ),
                Panel(
                    "Waiting for a writer",
                    "Orders in the queue of each worker, and how many share a transaction.",
                    "short",
                    (
                        Query("max by (worker) (symphony_api_queue_orders)", "{{worker}} waiting"),
                        Query(quantile(0.5, "symphony_api_batch_orders", RATE), "in a transaction"),
                    ),
                ),
                Panel(
                    "Refused",
                    "Requests per second answered 503 because too many were there.",
                    "ops",
                    (
                        Query(
                            f"sum by (kind) (rate(symphony_api_refused_total[{RATE}]))", "{{kind}}"
                        ),
                    ),
                    limit=NONE,
                ),
            ),
        ),
    ),
)
