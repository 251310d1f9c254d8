"""Alerts and recording rules ask for what exists, and fire when they should and only then."""

from __future__ import annotations

import math
import re
import subprocess
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from app.observability.families import CATALOGUE
from app.slo.objectives import declared
from chaos.observe.alert import Alert
from chaos.observe.alerts import ALERTS, alert_named
from chaos.observe.alerts_on_orders import BUDGET_WINDOW, BURN_ALERTS
from chaos.observe.generate import differences, main, write
from chaos.observe.prometheus import alertmanager
from chaos.observe.recording import RECORDINGS
from chaos.observe.rules import labels_of
from chaos.observe.scale import LAB, PRODUCTION, SCALES, Scale, duration
from tests.observe import promtool
from tests.observe.alert_cases import CASES, HEALTHY, SLOS, UNKNOWN
from tests.observe.label_values import VALUES
from tests.observe.promql_rules import Checker, known_series, reads
from tests.prometheus import program

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "RUNBOOK.md"
PROMETHEUS = ROOT / "docker" / "prometheus"
BY_SCALE = pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
BY_ALERT = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def checker() -> Checker:
    """A checker that knows what workers expose."""
    return Checker(known_series(), VALUES)


def rules_of(scale: Scale) -> list[Path]:
    """The committed rule files of a scale."""
    return sorted((PROMETHEUS / f"rules-{scale.name}").glob("*.yml"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


@BY_SCALE
@BY_ALERT
def test_an_alert_asks_for_what_exists(alert: Alert, scale: Scale) -> None:
    """Metrics, labels and values of its expression exist, and its texts name labels it leaves."""
    found, labels = checker().check(alert.expression(scale))
    assert found == []
    used = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
    assert used <= labels, f"{sorted(used - labels)} are not left by the expression"


@BY_SCALE
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_a_recording_has_the_labels_it_tells(recording: Any, scale: Scale) -> None:
    """What alerts and panels may rely on is what the expression yields."""
    found, labels = checker().check(recording.expression(scale))
    assert found == []
    assert labels == set(recording.labels)


@BY_ALERT
def test_an_alert_leads_to_the_runbook(alert: Alert) -> None:
    """Its entry exists."""
    assert alert.runbook in anchors(RUNBOOK)


@BY_ALERT
def test_an_alert_is_tested_by_promtool(alert: Alert) -> None:
    """There is a case in which it fires, and one near it in which it does not."""
    cases = [case for case in CASES if case.alert == alert.name]
    assert any(case.expected(LAB) for case in cases)
    assert any(case.silent or not case.expected(LAB) for case in cases)


def comparison(expression: Any) -> tuple[str, float] | None:
    """The histogram whose quantile an expression compares, and with what; None for any other."""
    if not isinstance(expression, promql.BinaryExpr):
        return None
    name = next((one for one in reads(str(expression.lhs)) if one.endswith("_bucket")), "")
    if not name or not isinstance(expression.rhs, promql.NumberLiteral):
        return None
    return name.removesuffix("_bucket"), expression.rhs.val


def test_a_quantile_is_compared_with_a_bound_of_its_histogram() -> None:
    """Between two bounds a quantile is a guess: calls of 1.1 s had a p95 of 2.4 s."""
    compared = {
        alert.name: found
        for alert in ALERTS
        if (found := comparison(promql.parse(alert.expression(PRODUCTION))))
    }
    assert compared.keys() == {
        alert.name
        for alert in ALERTS
        if any(name.endswith("_bucket") for name in reads(alert.expression(PRODUCTION)))
    }
    assert "GatewaySlow" in compared
    for name, threshold in compared.values():
        assert threshold in CATALOGUE[name].buckets


def test_buckets_of_cases_are_those_of_the_workers() -> None:
    """With bounds that nobody has, a case shows a quantile that nobody sees."""
    told = [selector for case in CASES for selector in (*case.series, *case.silent)]
    bounds: dict[str, set[float]] = {}
    for selector in (*told, *HEALTHY):
        if found := re.search(r'(\w+)_bucket{.*le="([^"]+)"', selector):
            bounds.setdefault(found[1], set()).add(float(found[2]))
    assert len(bounds) >= 5
    for name, seen in bounds.items():
        assert seen == {*CATALOGUE[name].buckets, math.inf}


def test_cases_are_made_of_series_that_exist() -> None:
    """A case with a label that no worker exposes would prove nothing."""
    told = {
        selector for case in CASES for selector in (*case.series, *case.silent)
    } | HEALTHY.keys()
    wrong = [
        sentence
        for selector in sorted(told)
        for sentence in checker().check(selector)[0]
        if "are not known to this check" not in sentence
    ]
    assert wrong == []


def test_names_of_alerts_are_unique() -> None:
    """An alert is found by its name."""
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    assert alert_named("RoleAbsent").severity == "page"
    with pytest.raises(LookupError, match="SloBurnFast"):
        alert_named("Nothing")


def test_what_is_there_for_missing_data_says_so() -> None:
    """Whatever fires where nothing is known is marked, so that every other alert is silent then."""
    marked = {alert.name for alert in ALERTS if alert.on_no_data}
    assert marked >= UNKNOWN.keys()
    assert marked - UNKNOWN.keys() == {"SloNoData"}, "which needs to know that orders come in"


@BY_SCALE
def test_alerts_fire_when_they_should_and_only_then(scale: Scale, tmp_path: Path) -> None:
    """promtool plays every case, a healthy platform and an unknown one against the rule files."""
    seen = promtool.scenes(scale)
    done = promtool.run_tests(program("promtool"), tmp_path, scale, rules_of(scale), seen)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_a_burn_rate_that_is_cut_to_a_whole_percentage_never_fires(tmp_path: Path) -> None:
    """The references' rule, a truncated percentage against 14.4, is found out by the same cases."""
    broken = [path.read_text() for path in rules_of(PRODUCTION)]
    cut = "max by (slo, window) (floor(symphony_slo_burn_rate * 0.05))"
    broken = [text.replace("max by (slo, window) (symphony_slo_burn_rate)", cut) for text in broken]
    files = []
    for number, text in enumerate(broken):
        files.append(tmp_path / f"{number}.yml")
        files[-1].write_text(text)
    assert any(cut in text for text in broken)
    cases = [case for case in CASES if case.alert == "SloBurnFast"]
    seen = promtool.scenes_of(cases, PRODUCTION)
    done = promtool.run_tests(program("promtool"), tmp_path, PRODUCTION, files, seen)
    assert done.returncode != 0
    assert "SloBurnFast" in done.stdout + done.stderr


@pytest.mark.parametrize("name", BURN_ALERTS)
def test_a_burn_alert_can_fire_for_every_objective(name: str) -> None:
    """The burn rate of an SLO is at most 1 / budget: a limit above that would never be reached."""
    assert set(SLOS) == set(declared())
    for objective in declared().values():
        assert BURN_ALERTS[name].factor < 1 / (1 - objective.target)


def test_a_budget_is_judged_by_the_bad_events_that_spent_it() -> None:
    """They are counted over the window of every objective, and that of the API's budget."""
    assert {one.window for one in declared().values()} == {BUDGET_WINDOW}


def test_burn_alerts_are_those_that_the_api_judges_by() -> None:
    """Severity, windows and factor of each rule come from the product, and page before ticket."""
    for name, burn in BURN_ALERTS.items():
        assert alert_named(name).severity == burn.severity
        assert f"> {burn.factor:g}" in alert_named(name).expression(PRODUCTION)
    assert [burn.severity for burn in BURN_ALERTS.values()] == ["page", "page", "ticket", "ticket"]


#: Queries as the reference systems have them: plausible, and about nothing that exists.
NEVER_THERE = (
    ('sum(rate(processing_time_ms_bucket{channel="canary"}[5m])) by (le)', "nothing exposes"),
    ("max(kafka_consumer_lag) > 30", "nothing exposes"),
    ('sum(rate(symphony_http_requests_total{service="orders"}[5m]))', "has no label service"),
    ('symphony_breaker_state{state="broken"} == 1', "is never broken"),
    ("rate(symphony_delivery_lag_records[5m])", "rate of the gauge"),
    ("delta(symphony_http_requests_total[5m]) > 1", "delta of the counter"),
    ("histogram_quantile(0.95, rate(symphony_http_requests_total[5m]))", "needs buckets"),
    ("sum by (pod) (symphony_worker_ready) == 0", "pod is no label"),
    ("symphony_worker_ready / sum by (role) (symphony_worker_ready)", "never match"),
    ("sum(symphony_worker_ready", "is no PromQL"),
)


@pytest.mark.parametrize(("query", "complaint"), NEVER_THERE)
def test_a_query_about_nothing_is_found(query: str, complaint: str) -> None:
    """The check that our own rules pass fails on queries as those of the references."""
    found, _ = checker().check(query)
    assert any(complaint in sentence for sentence in found), found


def test_promtool_and_amtool_accept_the_files(tmp_path: Path) -> None:
    """Rules, both configurations of Prometheus and the one of Alertmanager are read by them."""
    for scale in SCALES:
        call(program("promtool"), "check", "rules", *rules_of(scale))
    for name in ("prometheus-production", "prometheus-lab"):
        text = (PROMETHEUS / f"{name}.yml").read_text()
        place = tmp_path / f"{name}.yml"
        place.write_text(text.replace("/etc/prometheus", str(PROMETHEUS)))
        call(program("promtool"), "check", "config", place)
    call(program("amtool"), "check-config", ROOT / "docker/alertmanager/alertmanager.yml")


@pytest.mark.parametrize("severity", ["page", "ticket", "other"])
def test_alerts_go_where_their_severity_says(severity: str) -> None:
    """A page goes to `page`, a ticket to `ticket`, and what has neither to nobody."""
    config = ROOT / "docker/alertmanager/alertmanager.yml"
    said = call(
        program("amtool"),
        *("config", "routes", "test", "--config.file", config, f"severity={severity}"),
    )
    assert said.split() == [{"other": "nobody"}.get(severity, severity)]


def test_a_webhook_is_called_by_pages_and_tickets(tmp_path: Path) -> None:
    """With a webhook both receivers call it, and amtool accepts that, too."""
    made = alertmanager(webhook="http://127.0.0.1:8060/alerts")
    place = tmp_path / "alertmanager.yml"
    place.write_text(yaml.safe_dump(made))
    call(program("amtool"), "check-config", place)
    called = {one["name"] for one in made["receivers"] if "webhook_configs" in one}
    assert called == {"page", "ticket"}
    assert "webhook_configs" not in str(alertmanager())


def labels_when_firing(alert: Alert) -> dict[str, str]:
    """The labels with which it arrives, those of its expression with any value."""
    left = checker().check(alert.expression(LAB))[1]
    return {"alertname": alert.name, **dict.fromkeys(left, "any"), **labels_of(alert)}


def silences(page: Alert, other: Alert) -> bool:
    """Whether Alertmanager hides one while the other fires."""
    (rule,) = alertmanager()["inhibit_rules"]
    source, target = labels_when_firing(page), labels_when_firing(other)

    def matches(labels: dict[str, str], matchers: list[str]) -> bool:
        wanted = [matcher.split("=") for matcher in matchers]
        return all(labels.get(label) == value.strip('"') for label, value in wanted)

    return (
        matches(source, rule["source_matchers"])
        and matches(target, rule["target_matchers"])
        and all(source.get(label) == target.get(label) for label in rule["equal"])
    )


#: By page, what it hides: what says the same of the same SLO or role, and no possible cause.
HIDDEN = {
    "SloBurnFast": {"SloTicketFast", "SloTicketSlow"},
    "SloBurnSlow": {"SloTicketFast", "SloTicketSlow"},
    "SloNoData": {"SloTicketFast", "SloTicketSlow"},
    "ApiErrors": {"ApiSlow"},
    "SagaStuck": {"SagaOld"},
    "WorkerStuck": {"ConsumerLag"},
    "BatchHeld": {"ConsumerLag"},
    "GroupEmpty": {"ConsumerLag"},
    "DatabaseSlow": {"DatabasePoolBusy"},
    "RoleAbsent": {"WorkerDown"},
}


def test_a_page_hides_its_symptoms_and_no_cause() -> None:
    """An event that a saga does not allow is told beside sagas that are stuck for it."""
    hidden = {
        page.name: {other.name for other in ALERTS if silences(page, other)} for page in ALERTS
    }
    assert {page: others for page, others in hidden.items() if others} == HIDDEN
    assert set.union(*HIDDEN.values()) == {alert.name for alert in ALERTS if alert.symptom}
    assert all(alert.severity == "ticket" for alert in ALERTS if alert.symptom)


def test_alerts_are_grouped_by_labels_that_they_have() -> None:
    """A group by a label of no alert would be one group."""
    left = {label for alert in ALERTS for label in labels_when_firing(alert)}
    assert set(alertmanager()["route"]["group_by"]) <= left


def call(*command: Any) -> str:
    """Run a program that must succeed; returns what it printed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_metrics_about_others_keep_their_role() -> None:
    """Without honor_labels, what role slo counts of role payment would be said of role slo."""
    for name in ("prometheus-production", "prometheus-lab"):
        config = yaml.safe_load((PROMETHEUS / f"{name}.yml").read_text())
        assert [job["honor_labels"] for job in config["scrape_configs"]] == [True]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (1, "1s"),
        (90, "90s"),
        (300, "5m"),
        (5400, "90m"),
        (21_600, "6h"),
        (259_200, "3d"),
        (0, "0s"),
    ],
)
def test_durations_are_written_in_their_largest_unit(seconds: int, written: str) -> None:
    """As people write them in PromQL."""
    assert duration(seconds) == written


def test_a_rate_never_spans_too_few_scrapes() -> None:
    """Five minutes are five seconds in a lab, and a rate over them would see two scrapes."""
    assert PRODUCTION.window(300) == "5m"
    assert LAB.window(300) == "10s"
    assert LAB.window(3600) == "1m"


def test_generated_files_are_current() -> None:
    """`python -m chaos.observe.generate` would change nothing."""
    assert differences(ROOT) == []


def test_the_generator_names_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is changed, lacks or is left over is named, and writing mends all of them."""
    write(tmp_path)
    assert main(["--check", "--root", str(tmp_path)]) == 0
    (tmp_path / "docker/prometheus/prometheus-lab.yml").write_text("other")
    (tmp_path / "docker/alertmanager/alertmanager.yml").unlink()
    (tmp_path / "docker/prometheus/rules-lab/old.yml").write_text("groups: []")
    assert main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "docker/prometheus/prometheus-lab.yml is out of date" in said
    assert "docker/alertmanager/alertmanager.yml is missing" in said
    assert "docker/prometheus/rules-lab/old.yml is generated by nobody" in said
    assert main(["--root", str(tmp_path)]) == 0
    assert differences(tmp_path) == []
