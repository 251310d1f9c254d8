"""Objectives are OpenSLO files; a broken one is one clear error with the file and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import BrokenObjective
from app.slo import objectives
from app.slo.burn import Counts

pytestmark = pytest.mark.unit


def document() -> dict[str, Any]:
    """A good file, as data."""
    content: dict[str, Any] = yaml.safe_load((objectives.FILES / "availability.yaml").read_text())
    return content


def written(path: Path, content: Any) -> Path:
    """The content as a YAML file."""
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def set_at(content: Any, place: str, value: Any) -> None:
    """Set what stands at a dotted place; None takes it away."""
    *parents, last = (int(one) if one.isdigit() else one for one in place.split("."))
    for one in parents:
        content = content[one]
    if value is None:
        del content[last]
    else:
        content[last] = value


def test_the_declared_objectives_are_the_promised_ones() -> None:
    """Names and targets that alerts, dashboards and the API rely on."""
    found = objectives.declared()
    assert {name: one.target for name, one in found.items()} == {
        "availability": 0.995,
        "completion": 0.95,
        "dead_letters": 0.997,
        "fraud": 0.95,
    }
    assert all(one.window == "3d" and one.title and one.description for one in found.values())
    assert objectives.threshold_s(found, "completion") == 2.0


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("availability", Counts(90, 10)),
        ("completion", Counts(70, 5)),
        ("dead_letters", Counts(100, 4)),
        ("fraud", Counts(80, 2)),
    ],
)
def test_an_objective_makes_good_and_bad_of_what_was_counted(name: str, counts: Counts) -> None:
    """A file names two of good, bad and total; the third follows."""
    counted = {
        "availability.good": 90, "availability.bad": 10, "completion.good": 70,
        "completion.bad": 5, "fraud.good": 80, "fraud.bad": 2, "dead_letters.bad": 4,
    }  # fmt: skip
    assert objectives.declared()[name].counts(counted) == counts
    assert objectives.declared()[name].counts({}) == Counts(0, 0)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("apiVersion", "openslo/v1alpha", "apiVersion"),
        ("kind", "SLI", "kind"),
        ("metadata.name", "Not A Name", "metadata.name"),
        ("spec.budgetingMethod", "Timeslices", "budgetingMethod"),
        ("spec.timeWindow.0.duration", "30d", "timeWindow '30d': one of 1m, 5m,"),
        ("spec.timeWindow.0.isRolling", False, "isRolling"),
        ("spec.objectives.0.target", 1.0, "target"),
        ("spec.objectives.0.target", "99", "target"),
        ("spec.objectives.0.targetPercent", 99.5, "targetPercent"),
        ("spec.objectives", [], "objectives"),
        ("spec.objectives.0.value", 2.0, "op and value belong to a thresholdMetric"),
        ("spec.service", None, "service"),
        ("spec.indicator.spec.ratioMetric", None, "either thresholdMetric or ratioMetric"),
        ("spec.indicator.spec.ratioMetric.bad", None, "either good or bad"),
        ("spec.indicator.spec.ratioMetric.total.metricSource.type", "prometheus", "type"),
        (
            "spec.indicator.spec.ratioMetric.total.metricSource.spec.counts",
            ["orders.good"],
            "counts 'orders.good': some of completion.good,",
        ),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(
    tmp_path: Path, place: str, value: Any, reason: str
) -> None:
    """One line that says which file and what to change."""
    content = document()
    set_at(content, place, value)
    path = written(tmp_path / "broken.yaml", content)
    with pytest.raises(BrokenObjective) as caught:
        objectives.read([path])
    told = str(caught.value)
    assert told.startswith(f"broken_objective: {path.name}: ")
    assert reason in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "content",
    ["", "- a list", "a: [", "just text", "&a [*a]", "x: !!python/object:os.system {}", "\x00"],
)
def test_a_file_that_is_no_openslo_at_all_is_one_error(tmp_path: Path, content: str) -> None:
    """Whatever the bytes, nothing is executed and nothing else is raised."""
    path = written(tmp_path / "junk.yaml", content)
    with pytest.raises(BrokenObjective, match=r"junk\.yaml"):
        objectives.read([path])


def test_missing_huge_doubled_and_absent_files_are_refused(tmp_path: Path) -> None:
    """Each with its own words."""
    with pytest.raises(BrokenObjective, match="No such file"):
        objectives.read([tmp_path / "nowhere.yaml"])
    huge = written(tmp_path / "huge.yaml", "#" * (objectives.FILE_BYTES_MAX + 1))
    with pytest.raises(BrokenObjective, match="larger than"):
        objectives.read([huge])
    one, two = (written(tmp_path / f"{name}.yaml", document()) for name in ("one", "two"))
    with pytest.raises(BrokenObjective, match="availability is declared twice"):
        objectives.read([one, two])
    with pytest.raises(BrokenObjective, match="no OpenSLO file"):
        objectives.read([])
    with pytest.raises(BrokenObjective, match="no objective says which latency"):
        objectives.threshold_s(objectives.read([one]), "completion")


def test_a_latency_needs_a_threshold(tmp_path: Path) -> None:
    """Without op and value nobody knows what is good."""
    content = yaml.safe_load((objectives.FILES / "completion.yaml").read_text())
    set_at(content, "spec.objectives.0.value", None)
    with pytest.raises(BrokenObjective, match="op and value"):
        objectives.read([written(tmp_path / "c.yaml", content)])
    set_at(content, "spec.objectives.0.value", 2.0)
    set_at(content, "spec.indicator.spec.thresholdMetric.metricSource.spec.latency", "payment")
    with pytest.raises(BrokenObjective, match="latency 'payment': one of completion is expected"):
        objectives.read([written(tmp_path / "c.yaml", content)])
