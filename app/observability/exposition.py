"""Writes a scrape: prometheus_client's own writer escapes each name anew, character by character,
and takes more than half of a scrape's time with it.

Names and labels here are plain ASCII (the catalogue's rules), so only help and label values are
escaped, and a series' name with its labels is made once. Guarantees what a test compares: the same
text as prometheus_client writes, as far as a parser can tell. Counters, gauges, histograms only.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

SERIES_MAX = 20_000
"""Names kept; more series than any worker has."""

_names: dict[tuple[str, ...], str] = {}


def encode(metrics: Iterable[Metric], *, openmetrics: bool) -> bytes:
    """Return the exposition of `metrics`; exemplars in OpenMetrics only."""
    lines: list[str] = []
    for metric in metrics:
        name = metric.name
        if metric.type == "counter" and not openmetrics:
            name += "_total"
        text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
        if openmetrics:
            text = text.replace('"', r"\"")
        lines.append(f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n")
        for sample in metric.samples:
            value = _number(sample.value)
            if openmetrics and sample.exemplar is not None:
                value += _exemplar(sample.exemplar)
            lines.append(f"{_name(sample)} {value}\n")
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _name(sample: Sample) -> str:
    """The sample's name with its labels; those of a name always come in the same order."""
    key = (sample.name, *sample.labels.values())
    found = _names.get(key)
    if found is None:
        if len(_names) >= SERIES_MAX:
            _names.clear()
        found = _names[key] = f"{sample.name}{_labels(sample.labels)}" if key[1:] else sample.name
    return found


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(labels[name])}"' for name in sorted(labels)) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _exemplar(exemplar: Exemplar) -> str:
    at = f" {exemplar.timestamp}" if exemplar.timestamp is not None else ""
    return f" # {_labels(exemplar.labels)} {_number(exemplar.value)}{at}"


def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text
