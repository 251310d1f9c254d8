"""Facts about the reference systems' metric names: each equals what ours say, and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.observability import metrics
from app.observability.aliases import ALIASES, Alias, AliasCollector
from app.observability.families import CATALOGUE

pytestmark = pytest.mark.unit

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape() -> Series:
    """What the aliases show now, through the exposition and a parser."""
    registry = CollectorRegistry()
    registry.register(AliasCollector("payment"))
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    """The value of one series, None when there is none."""
    return series.get((name, frozenset(labels.items())))


@pytest.fixture
def before() -> Iterator[Series]:
    """What was counted before this test: the registry is the process's."""
    yield scrape()
    for family in (metrics.BREAKER_STATE, metrics.CONSUMER_LAG_AGE):
        family.forget()


def grown(before: Series, name: str, **labels: str) -> float:
    """How much a counter has grown since."""
    return (value(scrape(), name, **labels) or 0) - (value(before, name, **labels) or 0)


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: alias.name)
def test_an_alias_names_metrics_and_labels_that_exist(alias: Alias) -> None:
    """Sources, their labels and kinds are those of the catalogue; no alias hides one of ours."""
    assert alias.name not in CATALOGUE
    assert alias.name.endswith("_total") == (alias.kind == "counter")
    assert len({frozenset({*part.labels, *part.fixed}) for part in alias.parts}) == 1
    for part in alias.parts:
        source = CATALOGUE[part.source]
        assert source.kind == alias.kind
        assert {*part.only, *part.labels.values()} <= set(source.labels)
        assert part.words.keys() <= part.labels.keys()


def test_counters_are_added_up_over_what_is_left_out(before: Series) -> None:
    """All kinds of notifications are one number; another outcome is not in it."""
    metrics.NOTIFICATIONS.child("order_completed", "sent").inc(2)
    metrics.NOTIFICATIONS.child("stock_critical", "sent").inc(3)
    metrics.NOTIFICATIONS.child("stock_critical", "repeated").inc(50)
    assert grown(before, "notifications_sent_total") == 5
    assert grown(before, "inventory_alerts_total", severity="critical") == 3
    assert grown(before, "inventory_alerts_total", severity="warning") == 0


def test_several_sources_stand_under_one_name(before: Series) -> None:
    """Consumed messages are those of the payment roles: processed, skipped, dead-lettered."""
    metrics.CANARY_RESULTS.child("canary", "declined").inc(4)
    metrics.CANARY_RESULTS.child("stable", "retried").inc(9)
    metrics.DUPLICATES.child("payment-canary", "inbox").inc(5)
    metrics.DUPLICATES.child("shipping", "inbox").inc(70)
    metrics.DEAD_LETTERED.child("payment", "gateway_timeout").inc(6)
    name = "payment_messages_consumed_total"
    assert grown(before, name, status="processed") == 4
    assert grown(before, name, status="skipped") == 5
    assert grown(before, name, status="dlq") == 6


def test_values_are_translated_and_routes_have_both_labels(before: Series) -> None:
    """The reference's words for outcomes, and `path` beside `route`."""
    metrics.GATEWAY_CALLS.child("charge", "timeout").inc()
    metrics.GATEWAY_CALLS.child("charge", "error").inc()
    metrics.GATEWAY_CALLS.child("charge", "rejected").inc()
    metrics.GATEWAY_CALLS.child("refund", "error").inc(8)
    metrics.HTTP_REQUESTS.child("GET", "/api/orders/{order_id}", "404").inc()
    assert grown(before, "payment_outcomes_total", outcome="failed") == 2
    assert grown(before, "payment_outcomes_total", outcome="circuit_open") == 1
    route = "/api/orders/{order_id}"
    labels = {"method": "GET", "path": route, "route": route, "status": "404"}
    assert grown(before, "http_requests_total", **labels) == 1


def test_a_histogram_keeps_its_buckets_in_the_other_unit(before: Series) -> None:
    """Milliseconds where the reference has them: bounds and sum, not counts, are scaled."""
    metrics.SAGA_SECONDS.child("COMPLETED").observe(1.5)
    assert grown(before, "processing_time_ms_bucket", le="1000.0") == 0
    assert grown(before, "processing_time_ms_bucket", le="2000.0") == 1
    assert grown(before, "processing_time_ms_bucket", le="+Inf") == 1
    assert grown(before, "processing_time_ms_count") == 1
    assert grown(before, "processing_time_ms_sum") == pytest.approx(1500)


@pytest.mark.parametrize(("state", "number"), [("closed", 0), ("half_open", 1), ("open", 2)])
def test_the_breaker_is_one_number(before: Series, state: str, number: int) -> None:
    """0 closed, 1 half open, 2 open."""
    for one in metrics.BREAKER_STATES:
        metrics.BREAKER_STATE.child("gateway", one).set(1 if one == state else 0)
    assert value(scrape(), "payment_circuit_breaker_state") == number


def test_what_ours_do_not_say_is_not_said_by_an_alias(before: Series) -> None:
    """No lag known: no series, and in particular no 0."""
    name = "notification_kafka_consumer_lag_seconds"
    metrics.CONSUMER_LAG_AGE.forget()
    assert [one for one, _ in scrape() if one == name] == []
    metrics.CONSUMER_LAG_AGE.child("notification", "stock.low").set(31)
    metrics.CONSUMER_LAG_AGE.child("payment", "payment.requested").set(99)
    assert value(scrape(), name, topic="stock.low") == 31
    assert len([one for one, _ in scrape() if one == name]) == 1
