"""What must hold of the metrics that any worker serves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from app.observability import metrics
from app.observability.aliases import ALIASES
from app.observability.families import CATALOGUE, PROCESS

VALUES_MAX = 10
FREE = frozenset(
    {"topic", "consumer", "role", "service", "route", "path", "status", "place", "fault", "kind",
     "error", "reason", "table", "le"}
)  # fmt: skip
"""Labels that may have more values: each is bounded by a declaration of ours."""
SERIES_MAX = 4000
STANDARD = frozenset(metric.name for metric in PROCESS.collect())


def check(text: str, open_metrics: str) -> dict[str, Metric]:
    """Parse a scrape in both formats; its families by name, which are those of the catalogue."""
    assert " # {" not in text, "exemplars are no part of the plain format"
    assert open_metrics.rstrip().endswith("# EOF")
    families = {one.name: one for one in plain(text)}
    assert {one.name for one in openmetrics(open_metrics)} == families.keys()
    _check_names(families.values())
    _check_labels(families.values())
    return families


def _check_names(families: Iterable[Metric]) -> None:
    """Every family is declared, with its kind and its labels."""
    assert metrics.LAG.name in CATALOGUE
    declared = {name.removesuffix("_total"): family for name, family in CATALOGUE.items()}
    aliases = {alias.name.removesuffix("_total"): alias.kind for alias in ALIASES}
    for one in families:
        if one.name in STANDARD:
            continue
        if one.name in aliases:
            assert one.type == aliases[one.name]
            continue
        family = declared[one.name]
        assert one.type == family.kind
        for sample in one.samples:
            assert sample.labels.keys() - {"le"} == set(family.labels), sample


def _check_labels(families: Iterable[Metric]) -> None:
    """No label's values are without bound, and the whole is not large."""
    listed = list(families)
    assert sum(len(one.samples) for one in listed) <= SERIES_MAX
    for one in listed:
        values: dict[str, set[str]] = defaultdict(set)
        for sample in one.samples:
            for label, value in sample.labels.items():
                values[label].add(value)
        for label, seen in values.items():
            assert label in FREE or len(seen) <= VALUES_MAX, (one.name, label, seen)
