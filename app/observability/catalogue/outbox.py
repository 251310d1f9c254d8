"""The outbox and its relay, and jobs on dead letters."""

from __future__ import annotations

from app.observability.catalogue.buckets import RECORDS, SECONDS_SHORT
from app.observability.families import counter, gauge, histogram

OUTBOX_WRITTEN = counter(
    "symphony_outbox_written_total", "Outbox rows committed by writers.", "topic"
)
# The same is told by the census (OUTBOX_PENDING), for when no relay lives to tell it.
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

DEAD_LETTERS_SETTLED = counter(
    "symphony_dlq_settled_total",
    "Dead letters a job is done with, by its kind (redrive, edit, discard) and what became of them:"
    " redriven, discarded, open (refused).",
    "kind",
    "outcome",
)
