"""Metric families: a thin, cached layer over prometheus_client with one registry per process.

A family is declared once with its name, kind, labels and meaning; `child(...)` hands out the
series for given label values from a dict, so the hot path costs one lookup and no lock.
It does not serve or push anything: see `app.observability.health` and `render` below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Literal, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Sample

from app.observability.exposition import encode

Kind = Literal["counter", "gauge", "histogram"]
Series = TypeVar("Series", Counter, Gauge, Histogram)

# `_created` series double the size of every scrape and nothing here reads them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
PROCESS = ProcessCollector(namespace="symphony", registry=REGISTRY)

CATALOGUE: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}


class Family(Generic[Series]):
    """One metric name with all its series.

    `name` is the exposed name (a counter's ends in `_total`, units are in the name); `labels` is
    the ordered tuple of label names; `meaning` is the help text and the reference page's text.
    Label values must be bounded: never an order id, a customer or an error message.

    A gauge without labels is exposed from its first `child()` on, and not at all by a worker that
    never sets it: the 0 of a role that does not know would look like good news.
    """

    __slots__ = ("_children", "_make", "_parent", "buckets", "kind", "labels", "meaning", "name")

    def __init__(
        self,
        kind: Kind,
        make: Callable[[], Series],
        name: str,
        labels: tuple[str, ...],
        meaning: str,
        buckets: Sequence[float] = (),
    ) -> None:
        if name in CATALOGUE:
            raise ValueError(f"metric {name} is declared twice")
        self.kind: Kind = kind
        self.name = name
        self.labels = labels
        self.meaning = meaning
        self.buckets = tuple(buckets)
        self._make: Callable[[], Series] = make
        self._parent: Series | None = make() if labels or kind != "gauge" else None
        self._children: dict[tuple[str, ...], Series] = {}
        CATALOGUE[name] = self

    def child(self, *values: str) -> Series:
        """Return the series for `values`, one per label in order; created on first use."""
        found = self._children.get(values)
        if found is None:
            if self._parent is None:
                self._parent = self._make()
            found = self._parent.labels(*values) if self.labels else self._parent
            self._children[values] = found
        return found

    def forget(self, *values: str) -> None:
        """Remove the series for `values`, or all whose leading labels equal them.

        Used when nobody knows any more, as when a partition is revoked: a gauge that is not updated
        would lie.
        """
        for key in [key for key in self._children if key[: len(values)] == values]:
            found = self._children.pop(key)
            if self.labels:
                found_in = self._parent
                assert found_in is not None, "a child has a parent"
                found_in.remove(*key)
            elif self.kind == "gauge":
                REGISTRY.unregister(found)
                self._parent = None

    def samples(self) -> Iterator[Sample]:
        """What this process exposes of the family now."""
        if self._parent is not None:
            for metric in self._parent.collect():
                yield from metric.samples


def counter(name: str, meaning: str, *labels: str) -> Family[Counter]:
    """Declare a monotone count; `name` must end in `_total`."""
    if not name.endswith("_total"):
        raise ValueError(f"counter {name} must end in _total")

    def make() -> Counter:
        return Counter(name, meaning, labels, registry=REGISTRY)

    return Family("counter", make, name, labels, meaning)


def gauge(name: str, meaning: str, *labels: str) -> Family[Gauge]:
    """Declare a value that goes up and down."""

    def make() -> Gauge:
        return Gauge(name, meaning, labels, registry=REGISTRY)

    return Family("gauge", make, name, labels, meaning)


def histogram(name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Family[Histogram]:
    """Declare a distribution with explicit upper bounds (in the unit that ends `name`)."""

    def make() -> Histogram:
        return Histogram(name, meaning, labels, registry=REGISTRY, buckets=buckets)

    return Family("histogram", make, name, labels, meaning, buckets)


def exemplar(trace_id: str) -> dict[str, str] | None:
    """What `observe` and `inc` take as their exemplar: the trace to look at, if it was sampled.

    `trace_id` is empty when it was not. Only OpenMetrics shows exemplars.
    """
    return {"trace_id": trace_id} if trace_id else None


def one_of(
    family: Family[Gauge], leading: tuple[str, ...], states: Sequence[str], now: str
) -> None:
    """Show an enumerated state: 1 on the series whose last label is `now`, 0 on the others."""
    for state in states:
        family.child(*leading, state).set(1.0 if state == now else 0.0)


def render(accept: str = "") -> tuple[bytes, str]:
    """Return the exposition of this process's registry and its content type.

    OpenMetrics when `accept` (the request's Accept header) asks for it, Prometheus text otherwise.
    """
    _, content_type = choose_encoder(accept)
    openmetrics = content_type.startswith("application/openmetrics-text")
    return encode(REGISTRY.collect(), openmetrics=openmetrics), content_type
