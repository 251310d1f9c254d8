"""Unit tests of rules in promtool's format, made from `alert_cases`.

promtool evaluates all rules over the whole time of each of its tests, so cases that read different
metrics share one.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from chaos.observe.alert import Alert
from chaos.observe.alerts import ALERTS, alert_named
from chaos.observe.rules import labels_of, texts_of
from chaos.observe.scale import Scale
from tests.observe.alert_cases import (
    CASES,
    HEALTHY,
    SAMPLES,
    SCRAPES_PER_LOOK,
    UNKNOWN,
    Case,
    Firing,
    Run,
)
from tests.observe.promql_rules import reads

LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
VALUE = re.compile(r"\{\{ \$value[^}]*\}\}")
SERIES = re.compile(r"([a-z_:]+)(?:.*window=\"(\w+)\")?")


class Look(NamedTuple):
    """At `at_s`, the alert `name` fires exactly so."""

    name: str
    fires: Sequence[Firing]
    at_s: int


class Scene(NamedTuple):
    """Series, and what one sees under them."""

    series: Mapping[str, Run]
    looks: Sequence[Look]

    def feels(self) -> frozenset[str]:
        """The metrics that would change what one sees."""
        read = [reads(alert_named(look.name).expression(_ANY)) for look in self.looks]
        return frozenset().union(*read, self.shows())

    def shows(self) -> frozenset[str]:
        """The metrics that are there."""
        found = [SERIES.match(selector) for selector in self.series]
        return frozenset(f"{one[1]} of {one[2]}" if one[2] else one[1] for one in found)


_ANY = Scale("any", 1, 15)


def scenes(scale: Scale) -> list[Scene]:
    """Everything that is to be seen at a scale: cases, a healthy platform, and nothing at all."""
    end = (SAMPLES - 1) * scale.scrape_s
    quiet = [Look(one.name, [], at_s) for one in ALERTS for at_s in (0, end // 3, end)]
    blind = [Look(one.name, UNKNOWN.get(one.name, []), end) for one in ALERTS]
    return [*scenes_of(CASES, scale), Scene(HEALTHY, quiet), Scene({}, blind)]


def scenes_of(cases: Iterable[Case], scale: Scale) -> list[Scene]:
    """Everything that is to be seen of some cases."""
    end = (SAMPLES - 1) * scale.scrape_s
    return _together([scene for case in cases for scene in _of_case(case, scale, end)])


def _of_case(case: Case, scale: Scale, end_s: int) -> list[Scene]:
    """It fires, not before its `for` is over, nor under what comes near."""
    looks = [Look(case.alert, case.expected(scale), end_s)]
    hold_s = alert_named(case.alert).hold_s(scale)
    if hold_s > scale.scrape_s:
        looks.append(Look(case.alert, [], hold_s - scale.scrape_s))
    silent = Scene(case.silent, [Look(case.alert, [], end_s)])
    return [Scene(case.series, looks), *([silent] if case.silent else [])]


def _together(told: list[Scene]) -> list[Scene]:
    """Scenes that do not disturb each other made one."""
    made: list[Scene] = []
    for scene in told:
        for place, there in enumerate(made):
            if not (scene.feels() & there.shows() or scene.shows() & there.feels()):
                made[place] = Scene({**there.series, **scene.series}, [*there.looks, *scene.looks])
                break
        else:
            made.append(scene)
    return made


def expected(alert: Alert, firing: Firing) -> dict[str, Any]:
    """The alert as promtool must see it, its texts filled in."""

    def text(template: str) -> str:
        filled = LABEL.sub(lambda found: firing.labels[found[1]], template)
        return VALUE.sub(firing.value, filled) if firing.value else filled

    return {
        "exp_labels": {**labels_of(alert), **firing.labels},
        "exp_annotations": {key: text(one) for key, one in texts_of(alert).items()},
    }


def document(scale: Scale, rules: Iterable[Path], seen: Iterable[Scene]) -> dict[str, Any]:
    """The file for `promtool test rules`."""
    return {
        "rule_files": [str(path) for path in rules],
        "evaluation_interval": f"{SCRAPES_PER_LOOK * scale.scrape_s}s",
        "tests": [_test(scale, scene) for scene in seen],
    }


def _test(scale: Scale, scene: Scene) -> dict[str, Any]:
    return {
        "interval": f"{scale.scrape_s}s",
        "input_series": [
            {"series": selector, "values": run(scale)} for selector, run in scene.series.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": f"{look.at_s}s",
                "alertname": look.name,
                "exp_alerts": [expected(alert_named(look.name), one) for one in look.fires],
            }
            for look in scene.looks
        ],
    }


def expect_value(
    promtool: Path, directory: Path, expression: str, series: Mapping[str, str], value: float | None
) -> None:
    """Fail unless `expression`, a minute on, has one value without labels, or none at all."""
    test = {
        "interval": "15s",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "1m",
                "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
            }
        ],
    }
    file = directory / "expression.test.yml"
    file.write_text(yaml.safe_dump({"tests": [test]}))
    done = _promtool(promtool, file)
    assert done.returncode == 0, done.stdout + done.stderr


def run_tests(
    promtool: Path, directory: Path, scale: Scale, rules: Iterable[Path], seen: Iterable[Scene]
) -> subprocess.CompletedProcess[str]:
    """Run them all."""
    file = directory / f"{scale.name}.test.yml"
    file.write_text(yaml.safe_dump(document(scale, rules, seen)))
    return _promtool(promtool, file)


def _promtool(promtool: Path, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [promtool, "test", "rules", file], check=False, capture_output=True, text=True, timeout=280
    )
