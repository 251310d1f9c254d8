"""The names under which the reference systems' dashboards look for what our metrics say.

An alias is derived from our own series when it is scraped: nothing is counted twice and no code
feeds one. Guarantees: an alias has no series where its source has none. It does not promise the
reference's buckets: a histogram keeps ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from app.observability.families import CATALOGUE, REGISTRY, Kind

NOTHING: Mapping[str, str] = MappingProxyType({})
Labels = tuple[tuple[str, str], ...]


class Part(NamedTuple):
    """Series of `source` that an alias adds up.

    `only` are the values that a label must have. `labels` says for each label of the alias which
    label of ours it shows, `fixed` which text. `words` translates a label's values; those it does
    not name are left out. `weights` of one label's values turn 0 and 1 into a number.
    """

    source: str
    only: Mapping[str, frozenset[str]] = MappingProxyType({})
    labels: Mapping[str, str] = NOTHING
    fixed: Mapping[str, str] = NOTHING
    words: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    weights: Mapping[str, float] = MappingProxyType({})
    scale: float = 1.0


class Alias(NamedTuple):
    """One name of a reference system, and ours that it shows."""

    name: str
    kind: Kind
    system: str
    parts: tuple[Part, ...]


def _only(label: str, *values: str) -> Mapping[str, frozenset[str]]:
    return {label: frozenset(values)}


def _same(*names: str) -> Mapping[str, str]:
    return dict(zip(names, names, strict=True))


SAGA, FOOD, CART = "saga platform", "food ordering", "shop"
"""The systems: Java saga platform, Python food ordering, polyglot shop."""
_PAYMENT = frozenset({"payment", "payment-canary"})
_ROUTE = {"method": "method", "path": "route", "route": "route"}

ALIASES: Sequence[Alias] = (
    Alias("orders_created_total", "counter", FOOD, (
        Part("symphony_api_orders_total", _only("outcome", "accepted")),
    )),
    Alias("http_requests_total", "counter", f"{FOOD}, {CART}", (
        Part("symphony_http_requests_total", labels={**_ROUTE, "status": "status"}),
    )),
    Alias("http_request_duration_seconds", "histogram", f"{FOOD}, {CART}", (
        Part("symphony_http_request_duration_seconds", labels=_ROUTE),
    )),
    Alias("payment_messages_consumed_total", "counter", FOOD, (
        Part("symphony_canary_results_total",
             _only("outcome", "charged", "declined", "cancelled"), fixed={"status": "processed"}),
        Part("symphony_delivery_duplicates_total", {"consumer": _PAYMENT},
             fixed={"status": "skipped"}),
        Part("symphony_delivery_dead_lettered_total", {"consumer": _PAYMENT},
             fixed={"status": "dlq"}),
    )),
    Alias("payment_outcomes_total", "counter", FOOD, (
        Part("symphony_gateway_calls_total", _only("operation", "charge"),
             labels={"outcome": "outcome"},
             words={"outcome": {"ok": "success", "declined": "declined", "error": "failed",
                                "timeout": "failed", "rejected": "circuit_open"}}),
    )),
    Alias("payment_processing_duration_seconds", "histogram", FOOD, (
        Part("symphony_gateway_call_seconds", _only("operation", "charge")),
    )),
    Alias("payment_circuit_breaker_state", "gauge", FOOD, (
        Part("symphony_breaker_state", _only("breaker", "gateway"),
             weights={"closed": 0.0, "half_open": 1.0, "open": 2.0}),
    )),
    Alias("notifications_sent_total", "counter", FOOD, (
        Part("symphony_notifications_total", _only("outcome", "sent")),
    )),
    Alias("orders_started_total", "counter", SAGA, (Part("symphony_saga_started_total"),)),
    Alias("orders_succeeded_total", "counter", SAGA, (
        Part("symphony_saga_finished_total", _only("state", "COMPLETED")),
    )),
    Alias("orders_failed_total", "counter", SAGA, (
        Part("symphony_saga_finished_total", _only("state", "CANCELLED", "REJECTED")),
    )),
    Alias("saga_compensations_triggered_total", "counter", SAGA, (
        Part("symphony_saga_transitions_total", _only("to_state", "COMPENSATING")),
    )),
    Alias("saga_compensations_completed_total", "counter", SAGA, (
        Part("symphony_saga_transitions_total",
             {**_only("from_state", "COMPENSATING"), **_only("to_state", "CANCELLED")}),
    )),
    Alias("processing_time_ms", "histogram", SAGA, (
        Part("symphony_saga_duration_seconds", scale=1000.0),
    )),
    Alias("dlt_messages_total", "counter", SAGA, (Part("symphony_delivery_dead_lettered_total"),)),
    Alias("payments_processed_total", "counter", SAGA, (
        Part("symphony_canary_results_total", _only("outcome", "charged"),
             labels={"channel": "arm"},
             words={"channel": {"stable": "main", "canary": "canary"}}),
    )),
    Alias("payment_refunds_processed_total", "counter", SAGA, (
        Part("symphony_gateway_calls_total",
             {**_only("operation", "refund"), **_only("outcome", "ok")}),
    )),
    Alias("inventory_releases_processed_total", "counter", SAGA, (
        Part("symphony_delivery_records_total",
             {**_only("consumer", "inventory"), **_only("topic", "inventory.release")}),
    )),
    Alias("orders_slo_burn_rate", "gauge", SAGA, (
        Part("symphony_slo_burn_rate",
             {**_only("slo", "availability"), **_only("window", "1h", "6h")},
             labels=_same("window")),
    )),
    Alias("fraud_orders_scanned_total", "counter", SAGA, (
        Part("symphony_fraud_orders_scanned_total"),
    )),
    Alias("fraud_orders_flagged_total", "counter", SAGA, (
        Part("symphony_fraud_orders_flagged_total"),
    )),
    Alias("fraud_orders_auto_rejected_total", "counter", SAGA, (
        Part("symphony_fraud_orders_auto_rejected_total"),
    )),
    Alias("chaos_injected_latency_ms", "histogram", CART, (
        Part("symphony_chaos_delay_seconds", labels={"type": "fault"}, scale=1000.0),
    )),
    Alias("chaos_injected_errors_total", "counter", CART, (
        Part("symphony_chaos_injected_total", _only("fault", "error", "http_error", "db_error"),
             labels={"type": "fault"}),
    )),
    Alias("chaos_injected_timeouts_total", "counter", CART, (
        Part("symphony_chaos_injected_total", _only("fault", "timeout", "http_timeout"),
             labels={"type": "fault"}),
    )),
    Alias("notification_kafka_consumer_lag_seconds", "gauge", CART, (
        Part("symphony_consumer_lag_seconds", _only("role", "notification"),
             labels=_same("topic")),
    )),
    Alias("database_connection_time_seconds", "histogram", CART, (
        Part("symphony_db_acquire_seconds"),
    )),
    Alias("inventory_alerts_total", "counter", CART, (
        Part("symphony_notifications_total", _only("outcome", "sent"),
             labels={"severity": "kind"},
             words={"severity": {"stock_critical": "critical", "stock_low": "warning"}}),
    )),
)  # fmt: skip


class AliasCollector(Collector):
    """Serves the aliases of this process; `service` is the role, the reference's label."""

    def __init__(self, service: str) -> None:
        self._service = service

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on what was counted."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every alias whose source has series now."""
        for alias in ALIASES:
            series: dict[tuple[str, Labels], float] = defaultdict(float)
            for part in alias.parts:
                for place, value in _shown(part):
                    series[place] += value
            if not series:
                continue
            name = alias.name.removesuffix("_total") if alias.kind == "counter" else alias.name
            metric = Metric(name, f"Alias ({alias.system}) of {_sources(alias)}.", alias.kind)
            fixed = {"service": self._service} if alias.name.startswith("chaos_") else {}
            for (suffix, labels), value in series.items():
                metric.add_sample(name + suffix, {**dict(labels), **fixed}, value)
            yield metric


def install(service: str) -> None:
    """Serve the aliases with this process's metrics from now on; the last call's service counts."""
    remove()
    collector = AliasCollector(service)
    REGISTRY.register(collector)
    _installed.append(collector)


def remove() -> None:
    """Serve them no more."""
    while _installed:
        REGISTRY.unregister(_installed.pop())


_installed: list[AliasCollector] = []


def _sources(alias: Alias) -> str:
    return ", ".join(dict.fromkeys(part.source for part in alias.parts))


def _shown(part: Part) -> Iterator[tuple[tuple[str, Labels], float]]:
    """The part's series as (suffix of the name, labels of the alias) and value."""
    family = CATALOGUE.get(part.source)
    if family is None:
        return
    base = part.source.removesuffix("_total")
    for sample in family.samples():
        labels = _labels(part, sample)
        if labels is not None:
            suffix = sample.name.removeprefix(base)
            yield (suffix, labels), _value(part, sample, suffix)


def _labels(part: Part, sample: Sample) -> Labels | None:
    """The alias's labels of one of our samples; None when it is not meant."""
    ours = sample.labels
    if any(ours[label] not in values for label, values in part.only.items()):
        return None
    shown = dict(part.fixed)
    for label, source in part.labels.items():
        words = part.words.get(label)
        value = ours[source] if words is None else words.get(ours[source])
        if value is None:
            return None
        shown[label] = value
    if "le" in ours:
        shown["le"] = _bound(ours["le"], part.scale)
    return tuple(shown.items())


def _bound(le: str, scale: float) -> str:
    if scale == 1.0:
        return le
    bound: str = floatToGoString(float(le) * scale)  # type: ignore[no-untyped-call]
    return bound


def _value(part: Part, sample: Sample, suffix: str) -> float:
    value = sample.value
    if part.weights:
        value *= part.weights.get(sample.labels["state"], 0.0)
    return value * part.scale if suffix == "_sum" else value
