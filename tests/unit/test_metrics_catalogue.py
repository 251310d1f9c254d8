"""Facts about the catalogue of metrics: names, units, labels, buckets, and who feeds what."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from app.db.grants import GRANTS
from app.observability import metrics
from app.observability.families import CATALOGUE, PROCESS, Family
from app.slo import objectives

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PRODUCT = ("app", "agents", "tables", "web", "chaos")
UNITS = (
    "seconds", "bytes", "ratio", "records", "rows", "orders", "entries", "connections", "calls",
    "members", "products", "shards", "events", "info",
)  # fmt: skip
LOGINS = frozenset(f"symphony_{role}" for role in GRANTS)
UNITLESS = frozenset(
    {
        "symphony_delivery_batch_state", "symphony_delivery_held", "symphony_dlq_flood",
        "symphony_dlq_depth", "symphony_breaker_state", "symphony_saga_active",
        "symphony_saga_stuck", "symphony_worker_ready", "symphony_fault_active",
        "symphony_gameday_phase", "symphony_slo_burn_rate", "symphony_postgres_connections_max",
    }
)  # fmt: skip
"""Gauges that count things or say yes and no; everything else ends in its unit."""


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=lambda family: family.name)
def test_a_name_ends_in_its_unit(family: Family) -> None:  # type: ignore[type-arg]
    """A counter ends in _total, anything measured in a base unit; never milliseconds."""
    assert re.fullmatch(r"symphony(_[a-z0-9]+)+", family.name)
    assert not re.search(r"_(ms|millis\w*|minutes|kb|mb|percent)\b", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    if family.kind == "histogram":
        assert family.name.endswith(UNITS), "a distribution is one of something"
    if family.kind == "gauge" and family.name not in UNITLESS:
        assert family.name.endswith(UNITS), f"which unit is {family.name} in?"


@pytest.mark.parametrize("family", CATALOGUE.values(), ids=lambda family: family.name)
def test_a_family_says_what_it_means(family: Family) -> None:  # type: ignore[type-arg]
    """The meaning is a sentence, and no label can hold an order, a customer or a sentence."""
    assert family.meaning.endswith(".")
    assert "|" not in family.meaning, "it stands in a table of Markdown"
    assert not {"order_id", "customer", "key", "message", "trace_id", "partition", "le"} & {
        *family.labels
    }


def test_the_threshold_of_every_latency_objective_is_a_bound() -> None:
    """A ratio of what was fast enough is exact there; requests are alerted on at 1 s."""
    thresholds = {one.threshold_s for one in objectives.declared().values()} - {None}
    assert thresholds
    assert thresholds <= {*metrics.SAGA_SECONDS.buckets}
    assert 1 in metrics.HTTP_SECONDS.buckets
    for family in CATALOGUE.values():
        assert list(family.buckets) == sorted(set(family.buckets))


def _fed(path: Path) -> set[str]:
    """Names X of `metrics.X.child(...)` and `one_of(metrics.X, ...)` in a module."""
    fed: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "child":
            fed |= _named(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            fed |= _named(node.args[0]) if node.func.id == "one_of" else set()
    return fed


def _named(node: ast.expr) -> set[str]:
    is_metric = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "metrics"
    return {node.attr} if is_metric and isinstance(node, ast.Attribute) else set()


def test_every_metric_is_fed_somewhere() -> None:
    """A declared name that nobody sets would be a panel without data for ever."""
    families = {name: one for name, one in vars(metrics).items() if isinstance(one, Family)}
    assert {one.name for one in families.values()} == set(CATALOGUE), "all are in one namespace"
    used: set[str] = set()
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            if "catalogue" not in path.parts:
                used |= _fed(path)
    assert families.keys() - used == set()


def known(name: str) -> bool:
    """Whether a series of this name is exposed."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    standard = {metric.name for metric in PROCESS.collect()}
    return not {name, base}.isdisjoint({*CATALOGUE, *standard}) or (
        base.endswith("_total") and (base.removesuffix("_total") in standard)
    )


PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
    if path.name != "CHANGELOG.md"  # it also tells what was renamed
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_metric_that_a_page_names_exists(page: Path) -> None:
    """Including the table of signals, which leaves the prefix out."""
    text = page.read_text()
    named = set(re.findall(r"`(symphony_[a-z0-9_]+)[`{]", text))
    if page.name == "metrics.md":
        table = text[text.index("## The four signals") : text.index("## What to look at first")]
        short = set(re.findall(r"`([a-z0-9]+_[a-z0-9_]+)[`{]", table)) - {"symphony_"}
        assert len(short) > 30
        named |= {f"symphony_{one}" for one in short}
    assert sorted(one for one in named if not known(one) and one not in LOGINS) == []


def test_a_gauge_is_shown_only_where_it_is_known() -> None:
    """A role that never sets an unlabelled gauge does not expose a comforting 0."""
    family = metrics.POSTGRES_BYTES
    assert list(family.samples()) == []
    family.child().set(5)
    assert [sample.value for sample in family.samples()] == [5]
    family.forget()
    assert list(family.samples()) == []
    family.child().set(7)
    assert [sample.value for sample in family.samples()] == [7], "and comes back"
    family.forget()
