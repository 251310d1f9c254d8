"""The HTTP API of role `web`."""

from __future__ import annotations

from app.observability.catalogue.buckets import RECORDS, SECONDS_SHORT
from app.observability.families import counter, gauge, histogram

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
