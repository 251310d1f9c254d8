"""Dashboards: every panel asks for what exists and can be understood, and Grafana can read it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.observability.families import CATALOGUE
from app.slo.objectives import declared
from chaos.observe.alerts import ALERTS, alert_named
from chaos.observe.dashboards import DASHBOARDS, limits
from chaos.observe.dashboards.overview import FAULTS_IN_FORCE
from chaos.observe.panels import ANNOTATIONS, Dashboard, Limit, Panel, Row, as_json
from chaos.observe.recording import RECORDINGS
from chaos.observe.scale import PRODUCTION
from tests.observe.promtool import expect_value
from tests.observe.test_rules import checker
from tests.prometheus import program

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "grafana" / "dashboards"
#: Grafana's names of units that are used; a unit it does not know is shown as a bare word.
UNITS = {"short", "s", "ops", "reqps", "percentunit", "bytes"}
BY_DASHBOARD = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.name)


def panels(*, logs: bool = True) -> list[Any]:
    """Every panel, with a name; those of logs ask no PromQL."""
    return [
        pytest.param(panel, id=f"{dashboard.name}: {panel.title}")
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        if logs or panel.kind != "logs"
    ]


def filled(expression: str) -> str:
    """An expression as Grafana sends it: with an interval, and every value chosen."""
    return expression.replace("$__rate_interval", "1m").replace('"$role"', '".*"')


@pytest.mark.parametrize("panel", panels(logs=False))
def test_a_panel_asks_for_what_exists(panel: Panel) -> None:
    """Metrics, labels and values of its queries exist; its legends name labels that are left."""
    for query in panel.queries:
        found, labels = checker().check(filled(query.expression))
        assert found == [], query.expression
        named = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        assert named <= labels, f"{query.legend}: the query leaves {sorted(labels)}"
        assert named or len(panel.queries) == 1 or query.legend, "two queries need two legends"


@pytest.mark.parametrize("panel", panels())
def test_a_panel_can_be_understood(panel: Panel) -> None:
    """It has a title, a description of its own, and a unit that Grafana knows."""
    assert panel.title
    assert panel.description.endswith(".")
    assert panel.unit in UNITS
    assert panel.queries
    assert not re.search(r"job\s*=", " ".join(query.expression for query in panel.queries))


@pytest.mark.parametrize("panel", panels())
def test_seconds_and_ratios_are_shown_as_such(panel: Panel) -> None:
    """The unit of a panel is that of its metrics."""
    text = " ".join(query.expression for query in panel.queries)
    timed = re.search(r"quantile\([^)]*_seconds|max [^)]*\([a-z_]+_seconds", text)
    if timed and "changes" not in text:
        assert panel.unit == "s"
    if panel.unit in {"ops", "reqps"}:
        assert "rate(" in text


@BY_DASHBOARD
def test_a_dashboard_has_what_grafana_needs(dashboard: Dashboard) -> None:
    """Stable uid, data source by variable, every panel at a place of its own."""
    made = json.loads(as_json(dashboard))
    assert made["uid"] == f"symphony-{dashboard.name}"
    assert made["title"]
    assert made["description"].endswith(".")
    assert made["schemaVersion"] >= 39
    variables = {one["name"]: one for one in made["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            uid = panel["datasource"]["uid"]
            assert uid.removeprefix("${").removesuffix("}") in variables
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {uid}
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])


@BY_DASHBOARD
def test_a_number_is_of_this_moment(dashboard: Dashboard) -> None:
    """A stat asks for no range, in which the last value would stay after its data are gone."""
    stats = [one for one in json.loads(as_json(dashboard))["panels"] if one["type"] == "stat"]
    for panel in stats:
        for target in panel["targets"]:
            assert (target["instant"], target["range"]) == (True, False)
        assert panel["options"]["graphMode"] == "none"
        assert panel["options"]["reduceOptions"]["calcs"] == ["last"]
        assert panel["fieldConfig"]["defaults"]["noValue"] == "no data"
        (unknown,) = panel["fieldConfig"]["defaults"]["mappings"]
        assert unknown["options"]["match"] == "null+nan"
        colours = {
            step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        }
        assert unknown["options"]["result"]["color"] not in colours
    others = [one for one in dashboard.panels() if one.kind != "stat"]
    assert as_json(dashboard._replace(rows=[Row("", others)])).count('"instant"') == 0


WORKER = 'symphony_worker_info{role="payment",worker="payment-1"}'
ENDED = "1x2 stale"
"""A scrape failed, or the target is gone."""


@pytest.mark.parametrize(
    ("series", "shown"),
    [
        ({}, None),
        ({WORKER: "1x4"}, 0),
        ({WORKER: ENDED}, None),
        ({WORKER: "1x4", 'symphony_fault_active{fault="delay"}': "0x4"}, 0),
        ({WORKER: "1x4", 'symphony_fault_active{fault="delay"}': "1x4"}, 1),
    ],
    ids=["no worker", "no fault ever", "workers gone", "fault ended", "fault in force"],
)
def test_no_faults_is_what_workers_say(
    series: dict[str, str], shown: float | None, tmp_path: Path
) -> None:
    """Where no worker answers, it is unknown what is broken on purpose."""
    expect_value(program("promtool"), tmp_path, FAULTS_IN_FORCE, series, shown)


@BY_DASHBOARD
def test_only_prometheus_itself_may_say_nothing_is_zero(dashboard: Dashboard) -> None:
    """`or vector(0)` turns unknown into good news, but for alerts: who evaluates them answers."""
    for panel in dashboard.panels():
        for query in panel.queries:
            assert "vector(" not in query.expression or query.expression.startswith("sum(ALERTS{")


@BY_DASHBOARD
def test_variables_are_used_and_known(dashboard: Dashboard) -> None:
    """A variable's metric has that label; every variable that a query names is there."""
    for variable in dashboard.variables:
        found, labels = checker().check(variable.metric)
        assert found == []
        assert variable.label in labels
    text = " ".join(query.expression for panel in dashboard.panels() for query in panel.queries)
    named = set(re.findall(r"\$(?!__)(\w+)", text))
    assert named == {variable.name for variable in dashboard.variables}


def test_uids_titles_and_files_are_unique() -> None:
    """No dashboard hides another, and the folder holds these and no others."""
    for key in ("uid", "title", "name"):
        assert len({getattr(one, key) for one in DASHBOARDS}) == len(DASHBOARDS)
    assert {path.stem for path in FOLDER.glob("*.json")} == {one.name for one in DASHBOARDS}


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=lambda one: one.name)
def test_an_annotation_asks_for_what_exists(annotation: Any) -> None:
    """Faults and phases of GameDays are marked on every dashboard."""
    found, labels = checker().check(annotation.expression)
    assert found == []
    assert set(re.findall(r"\{\{(\w+)\}\}", annotation.title)) <= labels
    for dashboard in DASHBOARDS:
        marks = json.loads(as_json(dashboard))["annotations"]["list"]
        assert annotation.expression in [mark["target"]["expr"] for mark in marks]


@pytest.mark.parametrize(
    ("limit", "alert"),
    [
        (limits.API_ERRORS, "ApiErrors"),
        (limits.API_P95_S, "ApiSlow"),
        (limits.CANARY_DIFFERENCE, "CanaryWorse"),
        (limits.LAG_S, "ConsumerLag"),
        (limits.OUTBOX_S, "OutboxLag"),
        (limits.DATABASE_S, "DatabaseSlow"),
        (limits.CONNECTIONS, "DatabaseConnections"),
        (limits.LOOP_S, "EventLoopLate"),
        (limits.BURN, "SloTicketSlow"),
    ],
    ids=lambda one: one if isinstance(one, str) else "limit",
)
def test_a_line_is_where_the_alert_fires(limit: Limit, alert: str) -> None:
    """The threshold on a panel is the threshold of its alert."""
    lines = alert_named(alert).expression(PRODUCTION).splitlines()
    assert any(line.endswith(f" > {limit.value:g}") for line in lines)


#: Metrics that no panel, rule or variable shows, and why.
SHOWN_NOWHERE = {
    "symphony_slo_window_events": "burn rates and error ratios are shown",
    "symphony_relay_parked_total": "parked rows are counted in PostgreSQL",
    "symphony_breaker_transitions_total": "the breaker's state is shown",
}


def test_every_metric_is_shown_somewhere() -> None:
    """A metric that nobody looks at is a cost, or a gap in the dashboards."""
    told = [
        query.expression for one in DASHBOARDS for panel in one.panels() for query in panel.queries
    ]
    told += [alert.expression(PRODUCTION) for alert in ALERTS]
    told += [one.expression(PRODUCTION) for one in RECORDINGS]
    told += [variable.query for one in DASHBOARDS for variable in one.variables]
    shown = set(re.findall(r"symphony_[a-z0-9_]+", " ".join(told)))
    shown |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert CATALOGUE.keys() - shown == SHOWN_NOWHERE.keys()


def test_the_lines_of_slos_are_their_objectives() -> None:
    """The line on latencies is the objective's, and an edge of the histogram that shows them."""
    (completion,) = [one for one in declared().values() if one.threshold_s is not None]
    assert limits.COMPLETION_S.value == completion.threshold_s
    assert completion.threshold_s in CATALOGUE["symphony_saga_duration_seconds"].buckets
    assert limits.API_P95_S.value in CATALOGUE["symphony_http_request_duration_seconds"].buckets


def test_red_begins_where_it_should() -> None:
    """Above the limit, or below it where less is worse."""
    made = json.loads(as_json(next(one for one in DASHBOARDS if one.name == "overview")))
    steps = {
        panel["title"]: [
            step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        ]
        for panel in made["panels"]
        if panel["type"] == "stat"
    }
    assert steps["Worst burn rate, 1 h"] == ["green", "red"]
    assert steps["Workers that answer"] == ["red", "green"]
