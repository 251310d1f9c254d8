"""On a running lab, every selector of every rule and panel finds what workers really expose."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from secrets import token_hex

import promql_parser as promql
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.observability.families import CATALOGUE
from app.roles import ROLES
from chaos.console.recorded import place_recorded
from chaos.demo.script import Stage
from chaos.observe.alerts import ALERTS
from chaos.observe.dashboards import DASHBOARDS
from chaos.observe.panels import ANNOTATIONS
from chaos.observe.recording import RECORDINGS
from chaos.observe.scale import LAB
from tests.e2e.commands import symphony
from tests.e2e.test_runbook import parked_order
from tests.observe.promql_rules import Selector, selectors
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

ROUTE = "/api/products"
#: Series that appear with an event only, and the event, which is not provoked here. That each is
#: fed by somebody is asserted by tests/unit/test_metrics_catalogue.py.
AFTER_AN_EVENT: Mapping[str, str] = {
    "symphony_api_refused_total": "more requests at once than are admitted",
    'symphony_canary_results_total{arm="canary"}': "the canary has a share, and a worker",
    "symphony_db_errors_total": "PostgreSQL is away, or refuses",
    "symphony_delivery_batch_retries_total": "two transactions are in each other's way",
    "symphony_delivery_position_guard_total": "a fetch comes out of place",
    "symphony_delivery_splits_total": "a batch fails and its event is looked for",
    "symphony_delivery_holds_total": "PostgreSQL is away, or a flood",
    "symphony_delivery_lease_waits_total": "a heartbeat is late",
    "symphony_chaos_delay_seconds_bucket": "a chaos rule that delays",
    "symphony_saga_stale_table_total": "a table lags behind PostgreSQL",
    "symphony_trace_spans_total": "spans are exported",
    "symphony_dlq_flood": "more dead letters than are allowed",
    "symphony_dlq_settled_total": "a job on dead letters",
    "symphony_saga_ignored_total": "a reply that comes twice, or too late",
    "symphony_saga_illegal_total": "an event that no rule allows: never, in a sound platform",
    "symphony_saga_redrives_total": "no answer within a step's deadline",
}
#: Made by Prometheus itself, from what is checked here.
BY_PROMETHEUS = {"up", "ALERTS", *(recording.name for recording in RECORDINGS)}


def asked() -> Iterator[tuple[str, Selector]]:
    """Every selector, and who asks."""
    told = [(alert.name, alert.expression(LAB)) for alert in ALERTS]
    told += [(one.name, one.expression(LAB)) for one in RECORDINGS]
    told += [(one.name, one.expression) for one in ANNOTATIONS]
    told += [
        (f"{dashboard.name}: {panel.title}", query.expression)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        if panel.kind != "logs"
        for query in panel.queries
    ]
    for name, expression in told:
        filled = expression.replace("$__rate_interval", "1m").replace('"$role"', '".*"')
        for selector in selectors(promql.parse(filled)):
            if selector.name not in BY_PROMETHEUS:
                yield name, selector


def excused(selector: Selector) -> bool:
    """Whether its series need an event that does not happen here."""
    parts = {f'{selector.name}{{{label}="{value}"}}' for label, _, value in selector.matchers}
    return bool({selector.name, *parts} & AFTER_AN_EVENT.keys())


def matches(labels: Mapping[str, str], selector: Selector) -> bool:
    """Whether a series is selected, as Prometheus does it: a label that lacks is empty."""
    for label, operator, value in selector.matchers:
        has = labels.get(label, "")
        hit = bool(re.fullmatch(value, has)) if "Re" in operator else has == value
        if hit == ("Not" in operator):
            return False
    return True


class Watcher(threading.Thread):
    """Scrapes every worker about once a second, and remembers which selectors found a series."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self._stage = stage
        self._stopped = threading.Event()
        self._open = {selector: name for name, selector in asked() if not excused(selector)}
        self.rounds = 0
        self.families: set[str] = set()

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._stopped.is_set():
            for role, worker, text in self._scrapes():
                self._look({"job": "symphony", "role": role, "worker": worker}, text)
            self.rounds += 1
            self._stopped.wait(1)

    def stop(self) -> None:
        """End with the round that goes on."""
        self._stopped.set()
        self.join()

    def lacking(self) -> list[str]:
        """The selectors that have found nothing yet, with who asks."""
        return sorted(f"{one.name}{one.matchers} of {name}" for one, name in self._open.items())

    def _scrapes(self) -> Iterator[tuple[str, str, str]]:
        for row in self._stage.lab.status()["processes"]:
            if row["role"] not in ROLES or not row["pid"]:
                continue
            port = psutil.Process(row["pid"]).environ()["SYMPHONY_HEALTH_PORT"]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as said:
                    yield row["role"], row["name"], said.read().decode()
            except OSError:
                continue  # it is just starting; it is asked again

    def _look(self, target: Mapping[str, str], text: str) -> None:
        """A metric's own labels win over those of its target."""
        for family in text_string_to_metric_families(text):
            self.families.add(family.name)
            for sample in family.samples:
                labels = {**target, **sample.labels}
                hit = [
                    one for one in self._open if one.name == sample.name and matches(labels, one)
                ]
                for one in hit:
                    del self._open[one]


def rule(stage: Stage, fault: str, **fields: object) -> None:
    """Put a chaos rule in force for a while."""
    body = {"fault": fault, "ttlS": 60, "reason": "series of faults", **fields}
    stage.api.post("/api/chaos/rules", body)


def provoke(stage: Stage) -> None:
    """What makes series appear: orders, a review, a parked saga, faults, an error answer."""
    rule(stage, "duplicate", scope={"topic": "payment.result"})
    rule(stage, "http_error", scope={"route": ROUTE}, params={"status": 502})
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(stage.target.url + ROUTE, timeout=30).close()
    order = {"customerId": f"series-{token_hex(4)}", "currency": "EUR"}
    place_recorded(stage.target, {**order, "total": "12.50"}, f"series-{token_hex(8)}")
    held = place_recorded(stage.target, {**order, "total": "1250.01"}, f"series-{token_hex(8)}")
    assert held["status"] == "REVIEW"
    stage.api.post(f"/api/orders/{held['orderId']}/reject", {"reason": "series of decisions"})
    order_id = parked_order(stage)["ORDER_ID"]
    done = symphony(stage, "saga", "retry", order_id, "--reason", "series of operations")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def watcher(story_stage: Stage) -> Iterator[Watcher]:
    """Has watched the lab while it worked."""
    made = Watcher(story_stage)
    made.start()
    try:
        provoke(story_stage)
        wait_until(lambda: not made.lacking(), timeout_s=120, every_s=1, what=_Told(made))
        yield made
    finally:
        made.stop()


class _Told:
    """What lacks when a wait has failed, told then."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def __format__(self, spec: str) -> str:
        return f"every selector finds a series, but not {'; '.join(self._watcher.lacking())}"


def test_every_selector_finds_a_series(watcher: Watcher) -> None:
    """Alerts, recorded series and panels ask for what a running lab exposes."""
    assert watcher.rounds >= 1
    assert watcher.lacking() == []


def test_what_waits_for_an_event_is_exposed(watcher: Watcher) -> None:
    """A series that is not there yet belongs to a family that is."""
    for name in AFTER_AN_EVENT:
        family = name.partition("{")[0].removesuffix("_bucket")
        assert family in CATALOGUE
        assert family.removesuffix("_total") in watcher.families
