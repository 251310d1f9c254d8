"""The whole platform under load while one thing after the other breaks; every book must agree.

Each test breaks something while orders of every class flow, proves that it was broken, lets the
platform come to rest, and then asks the independent auditor (client's ledger, PostgreSQL,
topics, gateway's ledger). One lab for the module; FAULTS_LAB_DIR keeps it for inspection.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import psutil
import pytest

from app.messages import deadletter
from app.roles import ROLES
from app.settings import load_settings
from app.topics import MESSAGE_TOPICS, PAYMENT_REFUND, PAYMENT_REQUESTED, dlt_of
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.lab.plan import DEFAULT_WORKERS
from chaos.ledger.group import Generation
from chaos.workload.traffic import Traffic
from tests.faults.whole_lab import (
    PATIENCE_S,
    Platform,
    Record,
    alive,
    port_closed,
    processes_of,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SEED = int(os.environ.get("FAULTS_SEED", "3"))
RATE_PER_S = float(os.environ.get("FAULTS_RATE_PER_S", "60"))
#: 60 by hand.
BROKER_DOWN_S = float(os.environ.get("FAULTS_BROKER_DOWN_S", "15"))
SCALED = ("orchestrator", "payment", "inventory", "shipping", "dlq", "relay")
SAGA_ROLES = ("orchestrator", "payment", "inventory", "shipping")
OWNERS = "select count(distinct owner) from ops.relay_lease where expires_at > now()"
PARKED_BECAUSE = "select count(*) from orders.saga where state = 'PARKED' and reason = %s"
RUNNING = (
    "select count(*) from orders.orders left join orders.saga using (order_id)"
    " where coalesce(state, '') not in ('COMPLETED', 'CANCELLED', 'REJECTED', 'PARKED')"
)
REPLAYED_MAX = 2_000
#: Delays that make it likely that a worker is stopped inside a step, before and after its COMMIT.
SLOW_STEP = "delivery.before_transaction=delay:150ms,delivery.after_commit=delay:150ms"
#: A stall of the machine, not of the database, must not be answered with 503, nor must it use up a
#: record's tries while the gateway fails for a while; the next try is soon.
PATIENT = {
    "SYMPHONY_RETRY_ATTEMPTS_MAX": "12",
    "SYMPHONY_API_REQUEST_TIMEOUT_S": "15",
    "SYMPHONY_API_QUEUE_WAIT_MAX_MS": "15000",
    "SYMPHONY_RETRY_TIERS_S": "1,5",
}
SLOW_SINK = {
    "SYMPHONY_NOTIFICATION_DELAY_MS": "1000",
    "SYMPHONY_GATEWAY_CONCURRENCY_MAX": "5",
    "SYMPHONY_MAX_BATCH_RECORDS": "20",
}
UNTOLD = "select count(*) from notifications.notification where status = 'INTENT'"
INJECTED = {"SYMPHONY_PLUGINS": "chaos.injector", "SYMPHONY_FAILPOINTS": SLOW_STEP}


@pytest.fixture(scope="module")
def platform(servers_dir: Path) -> Iterator[Platform]:
    """One lab with every role for all tests of this module."""
    kept = os.environ.get("FAULTS_LAB_DIR")
    lab_dir = Path(kept) if kept else servers_dir / "platform"
    lab_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    settings = load_settings(lab_dir=lab_dir, lab_ready_timeout_s=240)
    lab = Lab.up(make_plan(settings, environment=PATIENT), detach=False)
    try:
        yield Platform(lab, RATE_PER_S)
    finally:
        lab.down()


@pytest.fixture
def two_of_each(platform: Platform) -> Iterator[Platform]:
    """Two workers of every role that shares its work, one again afterwards."""
    scale(platform, 2)
    yield platform
    scale(platform, 1)


def scale(platform: Platform, count: int) -> None:
    """So many workers of every role of SCALED."""
    with ThreadPoolExecutor(len(SCALED)) as pool:
        list(pool.map(lambda role: platform.lab.scale(role, count), SCALED))


def shared(platform: Platform) -> list[str]:
    """The workers of SCALED that own nothing although there are two of their role."""
    idle = [
        f"{role}-{number}"
        for role in SCALED
        if ROLES[role].consumes
        for number in (1, 2)
        if not platform.owned(f"{role}-{number}")
    ]
    return idle if platform.count(OWNERS) == 2 else [*idle, "a relay"]


def test_everything_again(platform: Platform) -> None:
    """Nothing changes when every saga role reads its last minutes once more, all at once and under
    load, and when old commands and results are published again, shuffled among new ones. The first
    of these tests: what is read again is all there is."""
    with platform.traffic(SEED + 50) as traffic:
        traffic.flow(150)
        wait_until(
            lambda: platform.count("select count(*) from shipping.shipment") >= 60,
            timeout_s=PATIENCE_S,
            what="every role has something to read again",
        )
        asked = [platform.replay(role, "5m") for role in SAGA_ROLES]
        ended = wait_until(
            lambda: platform.replayed(asked), timeout_s=PATIENCE_S, what="every replay has ended"
        )
        assert [(one["status"], one["error"]) for one in ended] == [("DONE", None)] * len(asked)
        assert all(one["records"] >= 50 for one in ended), ended
        for role in SAGA_ROLES:
            assert platform.lab.process(f"{role}-1")["last_exit"] == "exited with 75"
        published = publish_again(platform, traffic)
    done = platform.settle(traffic)
    assert done.document["repeated"] >= published + 150


def publish_again(platform: Platform, traffic: Traffic) -> int:
    """Publish records of every topic of orders again, in any order; how many."""
    luck = random.Random(SEED)
    records = platform.records(MESSAGE_TOPICS)
    again = luck.sample(records, min(REPLAYED_MAX, len(records)))
    assert {"order.created", "payment.requested", "payment.refund", "payment.result"} <= {
        one.topic for one in again
    }
    half = len(again) // 2
    assert platform.publish(again[:half]) == half
    traffic.flow(60)
    assert platform.publish(again[half:]) == len(again) - half
    traffic.flow(60)
    return len(again)


def test_orders_are_accepted_while_the_broker_is_down(platform: Platform) -> None:
    """Without a broker every order gets its 202; with it again the backlog drains by itself."""
    with platform.traffic(SEED) as traffic:
        traffic.flow(100)
        pid = platform.pid("broker")
        platform.lab.stop("broker", grace_s=0)
        assert not alive(pid)
        assert port_closed(platform.target.bootstrap)
        before = len(traffic.creates)
        missed = round(BROKER_DOWN_S * RATE_PER_S)
        traffic.flow(missed)
        assert {(one.outcome, one.status) for one in traffic.creates[before:]} == {("ok", 202)}
        assert platform.count("select count(*) from ops.outbox") >= missed
        assert platform.lab.start("broker")["pid"] != pid
        wait_until(
            lambda: platform.count("select count(*) from ops.outbox") < RATE_PER_S,
            timeout_s=PATIENCE_S,
            what="the backlog is published",
        )
        traffic.flow(60)
    platform.settle(traffic)


def test_postgresql_restarted_under_load(platform: Platform) -> None:
    """In good order and at once: meanwhile the API says 503 and when to come again; nothing it
    accepted is lost."""
    modes: tuple[Literal["fast", "immediate"], ...] = ("fast", "immediate")
    with platform.traffic(SEED + 10) as traffic:
        for mode in modes:
            traffic.flow(100)
            before = len(traffic.creates)
            pid = platform.pid("postgres")
            platform.lab.stop("postgres", mode=mode)
            assert not alive(pid)
            assert port_closed(platform.target.dsn)
            answer = platform.order()
            assert (answer.status, answer.body["code"]) == (503, "database_unavailable")
            assert int(answer.retry_after) > 0
            assert platform.lab.start("postgres")["pid"] != pid
            traffic.flow(200)
            assert any(one.status == 503 for one in traffic.creates[before:])
    assert {one.status for one in traffic.creates} <= {0, 202, 503}
    platform.settle(traffic)


def test_a_worker_of_every_role_is_killed(platform: Platform) -> None:
    """kill -9 of one role after the other at random moments costs nothing but time."""
    luck = random.Random(SEED)
    roles = [role for role, spec in ROLES.items() if spec.standard]
    luck.shuffle(roles)
    with platform.traffic(SEED + 20) as traffic:
        for role in roles:
            traffic.flow(luck.randrange(10, 90))
            platform.kill_and_see(f"{role}-1")
        traffic.flow(60)
    platform.settle(traffic)


def test_two_of_each_role_one_killed_one_joining(two_of_each: Platform) -> None:
    """Workers share the partitions, lose one and get it back while orders flow."""
    platform = two_of_each
    wait_until(lambda: not shared(platform), timeout_s=PATIENCE_S, what="both of each role work")
    luck = random.Random(SEED)
    with platform.traffic(SEED + 30) as traffic:
        for role in SCALED:
            traffic.flow(luck.randrange(10, 60))
            name = f"{role}-{luck.randint(1, 2)}"
            if not ROLES[role].consumes:
                platform.kill_and_see(name)
                continue
            kill_one_of_two(platform, role, name)
        traffic.flow(60)
    platform.settle(traffic)
    wait_until(lambda: not shared(platform), timeout_s=PATIENCE_S, what="both of each role work")


def kill_one_of_two(platform: Platform, role: str, name: str) -> None:
    """kill -9; a later generation consists of the survivor and the successor, both with work."""
    with platform.group(role) as watch:
        present = platform.client_ids(role)
        assert watch.wait(lambda g: at_work(g) == present, PATIENCE_S), watch.latest
        before = watch.number
        platform.kill_and_see(name)
        changed = platform.client_ids(role)
        assert len(changed - present) == len(present - changed) == 1
        again = watch.wait(lambda g: g.number > before and at_work(g) == changed, PATIENCE_S)
        assert again, f"{role}: generation {before} -> {watch.latest}, not {changed}"


def test_a_zombie_orchestrator_changes_nothing(two_of_each: Platform) -> None:
    """Stopped past its session and woken, it ends or joins anew; its successor's work stands."""
    platform = two_of_each
    platform.lab.restart("orchestrator-1", environment=INJECTED)
    with platform.traffic(SEED + 40) as traffic, platform.group("orchestrator") as watch:
        both = platform.client_ids("orchestrator")
        assert watch.wait(lambda g: at_work(g) == both, PATIENCE_S), watch.latest
        traffic.flow(100)
        before = watch.number
        pid = platform.lab.pause("orchestrator-1")
        wait_until(
            lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED,
            timeout_s=10,
            what="the orchestrator is stopped",
        )
        successor = {one for one in both if one.startswith("orchestrator-2.")}
        assert watch.wait(lambda g: g.number > before and at_work(g) == successor, PATIENCE_S), (
            watch.latest
        )
        traffic.flow(120)
        expelled = watch.number
        platform.lab.resume("orchestrator-1")
        assert watch.wait(
            lambda g: (
                g.number > expelled
                and len(at_work(g)) == 2
                and at_work(g) == platform.client_ids("orchestrator")
            ),
            PATIENCE_S,
        ), watch.latest
        traffic.flow(60)
    platform.settle(traffic)


def test_a_gateway_that_loses_replies_fails_and_is_killed(platform: Platform) -> None:
    """A charge whose reply was lost is asked for again with its key: charged once. An error shorter
    than the retries last: orders wait on the retry tier. Killed, it comes back with its books. All
    orders end as their class must.
    """
    since = len(platform.gateway_lines())
    platform.gateway(reply_lost_rate=0.3)
    with platform.traffic(SEED + 60) as traffic:
        wait_until(
            lambda: len(lost_charges(platform, since)) >= 20,
            timeout_s=PATIENCE_S,
            what="the gateway loses replies",
        )
        platform.gateway(mode="ERROR", reply_lost_rate=0.0)
        traffic.flow(round(6 * RATE_PER_S))
        platform.gateway(mode="SUCCESS")
        traffic.flow(60)
        platform.kill_and_see("gateway-sim")
        traffic.flow(90)
    platform.settle(traffic)
    lines = platform.gateway_lines(since)
    asked_again = {one["idempotency_key"] for one in lines if one["outcome"] == "replayed"}
    assert lost_charges(platform, since) & asked_again
    assert any(one["outcome"] == "error" for one in lines)
    assert platform.count("select count(*) from orders.order_history where event = 'retrying'")


def test_a_slow_sink_builds_a_backlog_and_orders_go_on(platform: Platform) -> None:
    """Five notices a second of some hundred: both lags grow, every order ends all the same, and a
    sink at its own speed again tells the rest. The next test's audit judges what was told."""
    platform.lab.restart("notification-1", environment=SLOW_SINK)
    with platform.traffic(SEED + 65) as traffic:
        traffic.flow(100)
        wait_backlog(platform, 100)
        traffic.flow(100)
        wait_backlog(platform, 300)
    wait_until(lambda: not platform.count(RUNNING), timeout_s=PATIENCE_S, what="all orders end")
    assert backlog(platform) > 300
    wait_until(lambda: told_late(platform) > 0, timeout_s=PATIENCE_S, what="notices are late")
    platform.lab.restart("notification-1")
    wait_until(
        lambda: backlog(platform) == 0 and not platform.count(UNTOLD),
        timeout_s=PATIENCE_S,
        what="the backlog is told",
    )


def backlog(platform: Platform) -> float:
    """How many records lie before the notifier."""
    return platform.metric(
        "notification-1", "symphony_delivery_lag_records", consumer="notification"
    )


def wait_backlog(platform: Platform, records: int) -> None:
    """Return when there are more than that."""
    wait_until(lambda: backlog(platform) > records, timeout_s=PATIENCE_S, what="a backlog grows")


def told_late(platform: Platform) -> float:
    """How many notices were told more than ten seconds after their event."""
    lag = "symphony_notification_lag_seconds"
    soon = platform.metric("notification-1", f"{lag}_bucket", le="10.0")
    return platform.metric("notification-1", f"{lag}_count") - soon


def test_a_gateway_in_error_for_longer_parks_until_redriven(platform: Platform) -> None:
    """When no retry is left, a charge is a dead letter and its order PARKED: neither given up nor
    charged; sent back once the gateway works, it resumes the order. A refund needs nobody: the saga
    goes on asking for it, and each time it is really tried.
    """
    platform.lab.restart("payment-1", environment={"SYMPHONY_RETRY_ATTEMPTS_MAX": "1"})
    platform.gateway(mode="ERROR")
    with platform.traffic(SEED + 80, rate_per_s=20) as traffic:
        wait_until(
            lambda: (
                platform.count(PARKED_BECAUSE, "") >= 60
                and platform.count(PARKED_BECAUSE, "customer") >= 3
            ),
            timeout_s=PATIENCE_S,
            what="orders and refunds park",
        )
        platform.gateway(mode="SUCCESS")
        traffic.flow(60)
    traffic.stop()
    platform.lab.restart("payment-1")
    wait_until(
        lambda: not platform.count(RUNNING) and not platform.count(PARKED_BECAUSE, "customer"),
        timeout_s=PATIENCE_S,
        what="everything ends that does not wait for an operator",
    )
    charges, refunds = (
        platform.records([dlt_of(topic.name)]) for topic in (PAYMENT_REQUESTED, PAYMENT_REFUND)
    )
    assert len(charges) >= platform.count(PARKED_BECAUSE, "") >= 50
    assert platform.publish(map(redriven, charges)) == len(charges)
    platform.settle(traffic, dead_letters=len(charges) + len(refunds))


def test_nobody_is_idle_with_work_and_nobody_is_left(platform: Platform) -> None:
    """After all of it every partition is owned and read to its end; `down` leaves no process."""
    wait_until(lambda: not platform.unfinished(), timeout_s=PATIENCE_S, what="no work is left")
    assert platform.lab.status()["problems"] == []
    pids = [row["pid"] for row in platform.lab.status()["processes"] if row["pid"]]
    servers = 3  # broker, PostgreSQL, gateway
    assert len(pids) == servers + sum(DEFAULT_WORKERS.values())
    assert platform.lab.down()
    assert not [pid for pid in pids if alive(pid)]
    wait_until(
        lambda: not processes_of(platform.lab.files.root), timeout_s=10, what="no process is left"
    )


def at_work(generation: Generation) -> set[str]:
    """Client ids of the members; empty while one of them has no partition."""
    if not all(member.assignment for member in generation.members):
        return set()
    return {member.client_id for member in generation.members}


def lost_charges(platform: Platform, since: int) -> set[str]:
    """Keys of charges that the gateway made and did not tell."""
    return {
        one["idempotency_key"]
        for one in platform.gateway_lines(since)
        if one["op"] == "charge" and one["outcome"] == "ok" and not one["replied"]
    }


def redriven(letter: Record) -> Record:
    """What an operator's redrive of a dead letter publishes."""
    not_after = datetime.now(UTC) + timedelta(minutes=5)
    output = deadletter.redrive(letter, not_after=not_after)
    return letter._replace(topic=output.topic, value=output.value, headers=tuple(output.headers))
