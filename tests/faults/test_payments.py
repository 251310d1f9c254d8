"""A provider that fails and a canary that is bad, on the whole platform; every book must agree.

One lab for both stories; PAYMENTS_LAB_DIR keeps it for inspection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.settings import load_settings
from chaos.console.api import Api, ApiError
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from tests.faults.whole_lab import PATIENCE_S, Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

RATE_PER_S = 20.0
ENVIRONMENT = {
    "SYMPHONY_RETRY_TIERS_S": "1",
    "SYMPHONY_RETRY_ATTEMPTS_MAX": "3",
    "SYMPHONY_BREAKER_OPEN_S": "1",
    "SYMPHONY_PAYMENT_AUTO_REDRIVE": "true",
    "SYMPHONY_PAYMENT_AUTO_REDRIVE_DELAY_S": "2",
    "SYMPHONY_PAYMENT_AUTO_REDRIVE_RATE_PER_S": "200",
    "SYMPHONY_PAYMENT_VARIANT": "faulty",
    "SYMPHONY_CANARY_INTERVAL_S": "0.5",
    "SYMPHONY_CANARY_WINDOW_S": "4",
    "SYMPHONY_CANARY_SAMPLES_MIN": "8",
    "SYMPHONY_API_REQUEST_TIMEOUT_S": "15",
    "SYMPHONY_API_QUEUE_WAIT_MAX_MS": "15000",
}
PARKED = "select order_id::text from orders.saga where state = 'PARKED'"
LETTERS = "select count(*) from ops.dead_letter"
ACTS = "select detail from ops.audit_log where actor = %s and action = %s"
ROLLED_BACK_WITHIN_S = 60.0
"""Two windows, a round of the judge and a bus of acknowledgements; ten times that on a busy
machine."""


@pytest.fixture(scope="module")
def whole(servers_dir: Path) -> Iterator[Platform]:
    """A lab whose canary, once it has workers, runs the faulty version."""
    kept = os.environ.get("PAYMENTS_LAB_DIR")
    lab_dir = Path(kept) if kept else servers_dir / "payments"
    lab_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    settings = load_settings(lab_dir=lab_dir, lab_ready_timeout_s=240)
    lab = Lab.up(make_plan(settings, environment=ENVIRONMENT), detach=False)
    try:
        yield Platform(lab, RATE_PER_S)
    finally:
        lab.down()


@pytest.fixture
def platform(whole: Platform) -> Iterator[Platform]:
    """The lab, whose provider works again whatever became of the test."""
    yield whole
    Api(whole.target.url).put("/api/payments/mode", {"mode": "SUCCESS"})


def told(platform: Platform, actor: str, action: str) -> list[dict[str, Any]]:
    """The details of what an actor did."""
    return [row[0] for row in platform.rows(ACTS, actor, action)]


def test_an_outage_parks_orders_and_its_end_sends_them_back(platform: Platform) -> None:
    """ERROR: tries, an open breaker, dead letters, PARKED with its reason. SUCCESS: the breaker
    closes at a new order, and every parked one is redriven by itself and ends as it must."""
    api = Api(platform.target.url)
    assert api.put("/api/payments/mode", {"mode": "ERROR"}) == {"mode": "ERROR"}
    with platform.traffic(1) as traffic:
        wait_until(lambda: traffic.sent >= 60, timeout_s=PATIENCE_S, what="60 orders")
    wait_until(
        lambda: len(platform.rows(PARKED)) >= 40, timeout_s=PATIENCE_S, what="40 parked orders"
    )
    sagas = (api.get(f"/api/sagas/{order_id}") for (order_id,) in platform.rows(PARKED))
    saga = next(one for one in sagas if one["outstanding"] != "refund")
    assert saga["state"] == "PARKED"
    reasons = [one["reason"] for one in saga["history"] if one["status"] == "PARKED"]
    assert set(reasons) & {"gateway_unavailable", "breaker_open"}, reasons
    status = api.get(f"/api/payments/status/{saga['orderId']}")
    assert (status["delivery"], status["tries"], status["arm"]) == ("PARKED", 3, "stable")
    assert not platform.rows("select 1 from payments.payment_attempt where status = 'CHARGED'")
    causes = {row[0] for row in platform.rows("select distinct error_class from ops.dead_letter")}
    assert "breaker_open" in causes, "the breaker never opened"

    assert api.put("/api/payments/mode", {"mode": "SUCCESS"}) == {"mode": "SUCCESS"}
    with platform.traffic(2) as more:
        more.flow(30, timeout_s=PATIENCE_S)
        wait_until(
            lambda: not platform.rows(PARKED), timeout_s=PATIENCE_S, what="no order is parked"
        )
    assert told(platform, "auto-redrive", "dead_letter.redrive")
    platform.settle(more, dead_letters=platform.count(LETTERS))


def test_a_bad_canary_is_rolled_back_and_every_order_ends(platform: Platform) -> None:
    """30 % of the orders go to a version that fails half of its charges: it is taken back within
    a bounded time, with its figures on record, and nobody paid twice or waits."""
    api = Api(platform.target.url)
    before = platform.dead_letters
    with pytest.raises(ApiError, match="symphony scale payment-canary 1"):
        api.put("/api/canary/config", {"percent": 30})
    platform.lab.scale("payment-canary", 1)
    wait_until(
        lambda: api.get("/api/canary/config")["canaryWorkers"] == ["payment-canary-1"],
        timeout_s=PATIENCE_S,
        what="the canary worker is heard of",
    )
    with platform.traffic(3) as traffic:
        traffic.flow(20)
        said = api.put("/api/canary/config", {"percent": 30, "reason": "try the faulty one"})
        assert (said["enabled"], said["pending"]) == (True, [])
        wait_until(
            lambda: api.get("/api/canary/config")["percent"] == 0,
            timeout_s=ROLLED_BACK_WITHIN_S,
            what="the rollback",
        )
        config = api.get("/api/canary/config")
        assert config["by"] == "auto-canary"
        assert "charges failed" in config["reason"]
        assert api.get("/api/canary/comparison?window=PT2M")["canary"]["errors"] > 0
        traffic.flow(40)
    (decided,) = told(platform, "auto-canary", "canary.roll_back")
    assert [one["verdict"] for one in decided["windows"]] == ["breached"] * 2
    for window in decided["windows"]:
        assert failed_of(window["canary"]) > failed_of(window["stable"]) == 0, window
    redrive_what_the_canary_parked(platform)
    platform.settle(traffic, dead_letters=platform.count(LETTERS) - before)
    arms = dict(platform.rows("select arm, count(*) from payments.payment_attempt group by 1"))
    assert arms["canary"] > 10, arms


def failed_of(arm: dict[str, int]) -> int:
    """How many charges of an arm failed at least once."""
    return arm["retrying"] + arm["parked"] + arm["retried"]


def redrive_what_the_canary_parked(platform: Platform) -> None:
    """Whatever spent its tries before the rollback waits for an operator, who sends it back: to the
    stable arm."""
    api = Api(platform.target.url)
    wait_until(
        lambda: not platform.rows("select 1 from ops.inbox where status = 2"),
        timeout_s=PATIENCE_S,
        what="nothing waits on a retry tier",
    )
    topic = "payment.requested.canary.dlt"
    if not platform.rows("select 1 from ops.dead_letter where topic = %s", topic):
        return
    wait_until(
        lambda: platform.count(LETTERS) == len(platform.records([topic])) + platform.dead_letters,
        timeout_s=PATIENCE_S,
        what="every dead letter is indexed",
    )
    job = api.post(f"/api/dlq/{topic}/replay", {"reason": "the canary is gone"})
    wait_until(
        lambda: api.get(f"/api/dlq/jobs/{job['id']}")["status"] == "DONE",
        timeout_s=PATIENCE_S,
        what="the job is done",
    )
    wait_until(lambda: not platform.rows(PARKED), timeout_s=PATIENCE_S, what="no order is parked")
