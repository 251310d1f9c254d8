"""What a PromQL expression asks for, checked against the metrics that exist.

`Checker.check` follows the labels through an expression: every metric is in the catalogue, every
label belongs to the metric, every value that a matcher names can occur, counters are rated and
gauges are not, and both sides of an operator have the labels by which they are matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import promql_parser as promql

from app.observability import metrics
from app.observability.families import CATALOGUE, PROCESS
from chaos.observe.recording import RECORDINGS
from chaos.observe.scale import PRODUCTION

#: What Prometheus adds to every series of a target; a metric's own label of that name wins.
TARGET = frozenset({"job", "instance", "role", "worker"})
OVER_COUNTERS = {"rate", "irate", "increase"}
OVER_GAUGES = {"delta", "deriv", "idelta", "predict_linear"}
VECTOR_TO_VECTOR = {
    *OVER_COUNTERS, *OVER_GAUGES, "changes", "resets", "avg_over_time", "max_over_time",
    "min_over_time", "sum_over_time", "last_over_time", "abs", "clamp_min", "clamp_max", "round",
}  # fmt: skip
KEEP_LEFT = {"and", "unless"}


class Known(NamedTuple):
    """One series name: its kind and its labels, those of the target included."""

    kind: str
    labels: frozenset[str]


class Selector(NamedTuple):
    """One vector selector: its name and its matchers as (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def known_series() -> dict[str, Known]:
    """Every series name that a worker can expose, and those that rules record."""
    assert metrics.LAG.name in CATALOGUE
    known = {
        "up": Known("gauge", TARGET),
        "ALERTS": Known("gauge", TARGET | {"alertname", "alertstate", "severity", "area"}),
    }
    for name, family in CATALOGUE.items():
        labels = TARGET | set(family.labels)
        if family.kind == "histogram":
            known[f"{name}_bucket"] = Known("bucket", labels | {"le"})
            known[f"{name}_sum"] = Known("counter", labels)
            known[f"{name}_count"] = Known("counter", labels)
        else:
            known[name] = Known(family.kind, labels)
    for metric in PROCESS.collect():
        counter = metric.type == "counter"
        known[metric.name + ("_total" if counter else "")] = Known(metric.type, TARGET)
    for recording in RECORDINGS:
        known[recording.name] = Known("gauge", frozenset(recording.labels))
    return known


def selectors(expression: Any) -> Iterator[Selector]:
    """Every vector selector of a parsed expression."""
    if isinstance(expression, promql.VectorSelector):
        found = [(one.name, str(one.op), one.value) for one in expression.matchers.matchers]
        name = expression.name or next(value for label, _, value in found if label == "__name__")
        yield Selector(name, tuple(found))
    for child in children(expression):
        yield from selectors(child)


def children(expression: Any) -> list[Any]:
    """The parts of an expression."""
    parts = [
        getattr(expression, name, None)
        for name in ("expr", "lhs", "rhs", "param", "vector_selector")
    ]
    return [part for part in [*parts, *getattr(expression, "args", ())] if part is not None]


def reads(expression: str) -> frozenset[str]:
    """What an expression reads in the end: metrics, those with windows as `metric of window`."""
    recorded = {one.name: one for one in RECORDINGS}
    found: set[str] = set()
    for name, matchers in selectors(promql.parse(expression)):
        names = (
            reads(recorded[name].expression(PRODUCTION)) if name in recorded else frozenset({name})
        )
        windows = [value for label, _, value in matchers if label == "window"]
        found |= {f"{one} of {windows[0]}" for one in names} if windows else names
    return frozenset(found)


class Checker:
    """Checks expressions against `known`; `values` are those that a label of a metric can have."""

    def __init__(
        self, known: Mapping[str, Known], values: Mapping[tuple[str, str], frozenset[str]]
    ) -> None:
        self._known = known
        self._values = values
        self.found: list[str] = []

    def check(self, text: str) -> tuple[list[str], frozenset[str]]:
        """What is wrong with an expression, and the labels that its result has."""
        self.found = []
        try:
            parsed = promql.parse(text)
        except ValueError as error:
            return [f"is no PromQL: {error}"], frozenset()
        return self.found, self._labels(parsed) or frozenset()

    def _labels(self, expression: Any) -> frozenset[str] | None:
        """The labels of the result; None for a scalar."""
        match expression:
            case promql.NumberLiteral() | promql.StringLiteral():
                return None
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self._labels(expression.expr)
            case promql.VectorSelector():
                return self._selected(expression)
            case promql.MatrixSelector():
                return self._selected(expression.vector_selector)
            case promql.AggregateExpr():
                return self._aggregated(expression)
            case promql.Call():
                return self._called(expression)
            case promql.BinaryExpr():
                return self._combined(expression)
        self.found.append(f"{type(expression).__name__} is not understood")
        return frozenset()

    def _selected(self, expression: Any) -> frozenset[str]:
        selector = next(selectors(expression))
        known = self._known.get(selector.name)
        if known is None:
            self.found.append(f"nothing exposes {selector.name}")
            return frozenset()
        for label, operator, value in selector.matchers:
            if label == "__name__":
                continue
            if label not in known.labels:
                self.found.append(f"{selector.name} has no label {label}")
            elif label not in TARGET | {"le"} or label == "role":
                self._value(selector.name, label, operator, value)
        return known.labels

    def _value(self, name: str, label: str, operator: str, value: str) -> None:
        if value.startswith("$") or not value:
            return
        possible = self._values.get((name, label), self._values.get(("*", label)))
        if possible is None:
            self.found.append(f"the values of {label} of {name} are not known to this check")
            return
        regex = "Re" in operator or "~" in operator
        hit = [one for one in possible if (re.fullmatch(value, one) if regex else one == value)]
        if not hit:
            self.found.append(f"{label} of {name} is never {value}: {', '.join(sorted(possible))}")

    def _aggregated(self, expression: Any) -> frozenset[str]:
        inner = self._labels(expression.expr) or frozenset()
        if expression.modifier is None:
            return frozenset()
        named = frozenset(expression.modifier.labels)
        if lacking := named - inner:
            self.found.append(f"{', '.join(sorted(lacking))} is no label of {expression.expr}")
        by = expression.modifier.type == promql.AggModifierType.By
        return named if by else inner - named

    def _called(self, expression: Any) -> frozenset[str] | None:
        name = expression.func.name
        labels = [self._labels(argument) for argument in expression.args]
        inner = next((one for one in labels if one is not None), None)
        self._kind(name, expression)
        if name == "histogram_quantile":
            if inner is None or "le" not in inner:
                self.found.append(f"histogram_quantile needs buckets by le: {expression}")
            return (inner or frozenset()) - {"le"}
        if name == "absent":
            matchers = next(selectors(expression)).matchers
            return frozenset(
                one[0] for one in matchers if "Equal" in one[1] and "Not" not in one[1]
            )
        if name == "time":
            return None
        if name == "vector":
            return frozenset()
        if name not in VECTOR_TO_VECTOR:
            self.found.append(f"the function {name} is not known to this check")
        return inner

    def _kind(self, function: str, expression: Any) -> None:
        if function not in OVER_COUNTERS | OVER_GAUGES:
            return
        for selector in selectors(expression):
            known = self._known.get(selector.name)
            counts = known is not None and known.kind in {"counter", "bucket"}
            if known is not None and counts != (function in OVER_COUNTERS):
                self.found.append(f"{function} of the {known.kind} {selector.name}")

    def _combined(self, expression: Any) -> frozenset[str] | None:
        left, right = self._labels(expression.lhs), self._labels(expression.rhs)
        if left is None or right is None:
            return right if left is None else left
        matching = expression.modifier.matching if expression.modifier else None
        if matching is None:
            by_left, by_right = left, right
        else:
            named = frozenset(matching.labels)
            include = matching.type == promql.LabelModifierType.Include
            if include and (lacking := (named - left) | (named - right)):
                self.found.append(f"on ({', '.join(sorted(lacking))}) of {expression}")
            by_left = left & named if include else left - named
            by_right = right & named if include else right - named
        operator = str(expression.op)
        if operator == "or":
            return left | right
        if by_left != by_right:
            lonely = ", ".join(sorted(by_left ^ by_right))
            self.found.append(f"the two sides never match, because of {lonely}: {expression}")
        return left if operator in KEEP_LEFT or matching is None else by_left
