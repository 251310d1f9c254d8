"""Every fault kind of chaos rules on the running platform: its effect is seen, and it ends.

One lab with orders flowing for the whole module. Each test publishes a rule, waits until the worker
says that it has it in force, sees its effect from outside, takes it back and waits until the worker
has let it go. At the end one audit of all books must hold. RULES_LAB_DIR keeps the lab.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil
import pytest

from app.settings import load_settings
from app.topics import (
    CHAOS_RULES,
    INVENTORY_REQUESTED,
    INVENTORY_RESULT,
    PAYMENT_REQUESTED,
    SHIPPING_REQUESTED,
    dlt_of,
    retry_tier,
)
from chaos.audit import run_audit
from chaos.console.api import Api
from chaos.control.rule import Rule, Scope, encode
from chaos.faults.kinds import KINDS
from chaos.faults.on_http import HEADER
from chaos.faults.on_messages import losses_of
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.records import Record
from chaos.workload.traffic import Traffic
from tests.faults.whole_lab import Platform, wait_gone
from tests.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

RATE_PER_S = 8.0
PATIENCE_S = 90.0
"""What takes a second on a quiet machine may take this."""
LEASE_S = 300.0
MEGABYTE = 1024 * 1024
FAST = {"SYMPHONY_STEP_DEADLINE_S": "3", "SYMPHONY_SAGA_IDLE_REDRIVE_S": "10"}
PRODUCTS = "/api/products"
DAMAGED = {"bad_utf8", "bad_json"}
T = TypeVar("T")

TESTED: set[str] = set()


class InForce(NamedTuple):
    """A rule that a worker has in force, since `since_ms` (Unix)."""

    rule: Rule
    worker: str
    since_ms: int


class World:
    """The lab, its orders, and its rules."""

    def __init__(self, platform: Platform, traffic: Traffic) -> None:
        self.platform = platform
        self.traffic = traffic

    @contextmanager
    def rule(self, worker: str, fault: str, **more: Any) -> Iterator[InForce]:
        """Have a rule in force in one worker; on leaving it is gone there."""
        TESTED.add(fault)
        scope = Scope(workers=(worker,), **more.pop("scope", {}))
        rule = Rule(
            id=f"{fault}-{worker}",
            fault=fault,
            scope=scope,
            ttl_s=LEASE_S,
            expires_at=datetime.now(UTC) + timedelta(seconds=LEASE_S),
            **more,
        )
        self._publish(rule.id, encode(rule))
        self._until(worker, lambda held: rule.id in held, f"{rule.id} is in force")
        try:
            yield InForce(rule, worker, int(time.time() * 1000))
        finally:
            self._publish(rule.id, None)
            self._until(worker, lambda held: rule.id not in held, f"{rule.id} is gone")

    def _publish(self, key: str, value: bytes | None) -> None:
        self.platform.publish([Record(CHAOS_RULES.name, 0, key.encode(), value)])

    def _until(self, worker: str, met: Callable[[Mapping[str, Any]], bool], what: str) -> None:
        wait_until(
            lambda: (held := self.held(worker)) is not None and met(held),
            timeout_s=PATIENCE_S,
            what=f"{what} in {worker}",
        )

    def delivery(self, worker: str) -> dict[str, Any]:
        """What a worker says on its health port; empty while it does not answer."""
        rows = self.platform.lab.status(delivery=True)["processes"]
        said: dict[str, Any] = next(r for r in rows if r["name"] == worker).get("delivery") or {}
        return said

    def held(self, worker: str) -> dict[str, Any] | None:
        """The rules that a worker has in force; None while it does not answer."""
        rules: dict[str, Any] | None = (self.delivery(worker).get("chaos") or {}).get("rules")
        return rules

    def struck(self, one: InForce, times: int) -> None:
        """Wait until the rule has struck so often."""
        self._until(
            one.worker,
            lambda held: held.get(one.rule.id, {}).get("struck", 0) >= times,
            f"{one.rule.id} has struck {times} times",
        )

    def consumer(self, worker: str) -> dict[str, Any]:
        """What a worker says of its one consumer."""
        (consumer,) = self.delivery(worker)["consumers"]
        return dict(consumer)

    def since(self, one: InForce, topic: str) -> list[Record]:
        """The records of a topic that were written since a rule is in force."""
        found = self.platform.records([topic])
        return [record for record in found if record.timestamp >= one.since_ms]

    def turned_back(self) -> set[str]:
        """Orders that will not complete."""
        return {one for (one,) in self.platform.rows(
            "select order_id::text from orders.saga where reason <> ''")}  # fmt: skip

    def waited_s(self, consumer: str, one: InForce, topic: str) -> list[float]:
        """How long each record of a topic waited for its transaction; repeats have none."""
        rows = self.platform.rows(
            'select partition, "offset", extract(epoch from at)::float8 from ops.inbox'
            " where consumer = %s and topic = %s",
            consumer,
            topic,
        )
        done = {(partition, offset): at_s for partition, offset, at_s in rows}
        return [
            done[place] - record.timestamp / 1000
            for record in self.since(one, topic)
            if (place := (record.partition, record.offset)) in done
        ]

    def get(self, path: str, timeout_s: float = 30.0) -> tuple[int, Mapping[str, str], float]:
        """Status, headers and seconds of a request to the API."""
        began = time.monotonic()
        try:
            with urllib.request.urlopen(
                f"{self.platform.target.url}{path}", timeout=timeout_s
            ) as reply:
                reply.read()
                return reply.status, reply.headers, time.monotonic() - began
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, time.monotonic() - began


@pytest.fixture(scope="module")
def world(servers_dir: Path) -> Iterator[World]:
    """A lab with every role, and orders that keep coming until the audit."""
    kept = os.environ.get("RULES_LAB_DIR")
    lab_dir = Path(kept) if kept else servers_dir / "rules"
    lab_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    settings = load_settings(lab_dir=lab_dir, lab_ready_timeout_s=240)
    lab = Lab.up(make_plan(settings, environment=FAST), detach=False)
    try:
        platform = Platform(lab, RATE_PER_S)
        with platform.traffic(5) as traffic:
            traffic.flow(3)
            yield World(platform, traffic)
    finally:
        lab.down()


def id_of(record: Record) -> str:
    return header(record, "ce_id")


def header(record: Record, name: str) -> str:
    return (dict(record.headers).get(name) or b"").decode()


def test_drop(world: World) -> None:
    """A command is read and passed over; the orchestrator sends it again, and it is done once.

    An order that was cancelled meanwhile needs it no more.
    """
    topic = PAYMENT_REQUESTED.name
    with world.rule("payment-1", "drop", scope={"topic": topic}) as one:
        world.struck(one, 4)
    path = losses_of(world.platform.target.lab_dir, "payment-1")
    lost = {(line["partition"], line["offset"]) for line in map(json.loads, path.open())}
    dropped = {id_of(r): r for r in world.since(one, topic) if (r.partition, r.offset) in lost}
    assert len(dropped) >= 3

    ended = "select order_id::text, state, reason from orders.saga where terminal"
    keys = {event: (record.key or b"").decode() for event, record in dropped.items()}

    def all_ended() -> bool:
        return set(keys.values()) <= {order for order, _, _ in world.platform.rows(ended)}

    wait_until(all_ended, timeout_s=PATIENCE_S, what="every order with a lost command has ended")
    rows = world.platform.rows(
        'select event_id::text, "offset" from ops.inbox where consumer = %s and status = 0',
        "payment",
    )
    done = dict(rows)
    later = {event for event, record in dropped.items() if done.get(event, -1) > record.offset}
    assert later
    cancelled = {order for order, _, why in world.platform.rows(ended) if why == "customer"}
    assert {keys[event] for event in dropped.keys() - later} <= cancelled


def test_duplicate(world: World) -> None:
    """The same message stands in its topic twice, byte by byte."""
    topic = PAYMENT_REQUESTED.name
    with world.rule("orchestrator-1", "duplicate", scope={"topic": topic}) as one:
        world.struck(one, 3)
    counts = Counter(
        (id_of(record), record.value, record.headers) for record in world.since(one, topic)
    )
    assert len([content for content, times in counts.items() if times > 1]) >= 3


def test_delay(world: World) -> None:
    """Commands wait at least the shortest delay before anything is done about them."""
    topic = INVENTORY_REQUESTED.name
    params = {"min_ms": 700, "max_ms": 900}
    with world.rule("inventory-1", "delay", scope={"topic": topic}, params=params) as one:
        wait_until(
            lambda: len(world.waited_s("inventory", one, topic)) >= 3,
            timeout_s=PATIENCE_S,
            what="three delayed commands are done",
        )
        waited_s = world.waited_s("inventory", one, topic)
    assert min(waited_s) >= 0.6


def test_corrupt(world: World) -> None:
    """What is damaged on its way is dead-lettered, and the command itself comes after it."""
    topic = SHIPPING_REQUESTED.name
    with world.rule("orchestrator-1", "corrupt", scope={"topic": topic}) as one:
        world.struck(one, 2)

    def letters() -> list[Record]:
        return world.since(one, dlt_of(topic))

    wait_until(lambda: len(letters()) >= 2, timeout_s=PATIENCE_S, what="dead letters")

    def genuine() -> bool:
        """Each came again, unless its order was turned back before."""
        later, turned = world.since(one, topic), world.turned_back()
        return all(
            any(id_of(r) == id_of(letter) and r.value != letter.value for r in later)
            for letter in letters()
            if (letter.key or b"").decode() not in turned
        )

    wait_until(genuine, timeout_s=PATIENCE_S, what="the commands themselves")
    assert {header(letter, "x-error-reason") for letter in letters()} <= DAMAGED


def test_no_event_is_lost_or_invented(world: World) -> None:
    """What a dual write loses or invents at these places, the outbox does not."""
    for name, stored in (("lost-event", True), ("phantom-event", False)):
        told = Api(world.platform.target.url).post(f"/api/chaos/{name}", {})
        assert (told["stored"], told["published"], told["defect"]) == (stored, stored, "")


def test_pause_and_reorder(world: World) -> None:
    """A paused consumer reads nothing and says so; its backlog is then done in another order."""
    topic = INVENTORY_REQUESTED.name
    with (
        world.rule("inventory-1", "reorder", scope={"topic": topic}),
        world.rule("inventory-1", "pause", scope={"topic": topic}) as one,
    ):
        assert world.consumer("inventory-1")["paused"] == [topic]

        def places() -> list[tuple[str, int, int]]:
            parts = world.consumer("inventory-1")["partitions"]
            return [(p["topic"], p["partition"], p["watermark"]) for p in parts
                    if p["topic"] == topic]  # fmt: skip

        # what was polled or asked for before may still run
        stood = settled(places)
        wait_until(
            lambda: max(in_partitions(world.since(one, topic))) >= 7,
            timeout_s=PATIENCE_S,
            what="a backlog",
        )
        assert places() == stood
    asked = list(dict.fromkeys(id_of(record) for record in backlog(world, one, topic)))
    wait_until(
        lambda: set(asked) <= set(answers(world, one)),
        timeout_s=PATIENCE_S,
        what="the backlog is done",
    )
    answered = [event for event in answers(world, one) if event in asked]
    assert sorted(answered) == sorted(asked)
    assert answered != asked


def settled(look: Callable[[], T], for_s: float = 3.0) -> T:
    """What `look` returned all the time for `for_s`."""
    said, since_s = look(), time.monotonic()

    def stands() -> bool:
        nonlocal said, since_s
        if (now := look()) != said:
            said, since_s = now, time.monotonic()
        return time.monotonic() - since_s >= for_s

    wait_until(stands, timeout_s=PATIENCE_S, what="nothing moves any more")
    return said


def in_partitions(found: list[Record]) -> list[int]:
    """How many records each partition has."""
    return list(Counter(record.partition for record in found).values()) or [0]


def backlog(world: World, one: InForce, topic: str) -> list[Record]:
    """The records since a rule of the partition that has most of them."""
    found = world.since(one, topic)
    ((most, _),) = Counter(record.partition for record in found).most_common(1)
    return [record for record in found if record.partition == most]


def answers(world: World, one: InForce) -> list[str]:
    """The commands that inventory has answered, in the order of its answers."""
    found = world.since(one, INVENTORY_RESULT.name)
    return list(dict.fromkeys(json.loads(r.value or b"{}")["command_id"] for r in found))


@pytest.mark.parametrize("fault", ["error", "timeout"])
def test_error_and_timeout(world: World, fault: str) -> None:
    """What is struck goes to a retry tier with the reason, comes back and is done."""
    worker, topic, params = {
        "error": ("shipping-1", SHIPPING_REQUESTED.name, {"code": "gateway_unavailable"}),
        "timeout": ("inventory-1", INVENTORY_REQUESTED.name, {"after_ms": 200}),
    }[fault]
    said = {"error": "injected by error-shipping-1", "timeout": "no end within 200 ms"}[fault]
    with world.rule(worker, fault, scope={"topic": topic}, params=params, times=2) as one:
        world.struck(one, 2)

        def retried() -> list[Record]:
            """Told by their message alone: it may strike before it is seen to be in force."""
            return [
                record
                for record in world.platform.records([retry_tier(1).name])
                if header(record, "x-original-topic") == topic
                and said in header(record, "x-error-message")
            ]

        wait_until(lambda: len(retried()) >= 2, timeout_s=PATIENCE_S, what="two retries")
        done_once(world, worker.removesuffix("-1"), [id_of(record) for record in retried()])


def done_once(world: World, consumer: str, events: list[str]) -> None:
    """Wait until each event is finished."""
    wait_until(
        lambda: (
            world.platform.count(
                "select count(*) from ops.inbox where consumer = %s and status = 0"
                " and event_id::text = any(%s)",
                consumer,
                events,
            )
            == len(set(events))
        ),
        timeout_s=PATIENCE_S,
        what=f"{consumer} has finished {len(events)} events",
    )


def test_slow(world: World) -> None:
    """The handling takes as long as it is told to."""
    topic = SHIPPING_REQUESTED.name
    params = {"min_ms": 600, "max_ms": 600}
    with world.rule("shipping-1", "slow", scope={"topic": topic}, params=params) as one:
        wait_until(
            lambda: len(world.waited_s("shipping", one, topic)) >= 2,
            timeout_s=PATIENCE_S,
            what="two slow commands are done",
        )
        waited_s = world.waited_s("shipping", one, topic)
    assert min(waited_s) >= 0.5


def test_crash(world: World) -> None:
    """The process is gone as after kill -9, once; its successor reads the same, stays, and counts
    what its predecessor could not tell."""
    lab = world.platform.lab
    pid = world.platform.pid("shipping-1")
    TESTED.add("crash")
    before = lab.process("shipping-1")["restarts"]
    rule = Rule(
        id="crash",
        fault="crash",
        scope=Scope(workers=("shipping-1",)),
        ttl_s=LEASE_S,
        expires_at=datetime.now(UTC) + timedelta(seconds=LEASE_S),
    )
    world._publish("crash", encode(rule))
    try:
        wait_gone(pid, PATIENCE_S)
        row = lab.wait_restarted("shipping-1", pid, PATIENCE_S)
        assert "137" in row["last_exit"]
        world._until(
            "shipping-1",
            lambda held: held.get("crash", {}).get("struck") == 1,
            "the rule is in force again, with its one hit",
        )
        world.traffic.flow(12)
        assert lab.process("shipping-1")["restarts"] == before + 1
        assert world.platform.pid("shipping-1") == row["pid"]
    finally:
        world._publish("crash", None)


def test_db_latency(world: World) -> None:
    """Whatever asks PostgreSQL waits longer; whoever does not, does not."""
    params = {"min_ms": 500, "max_ms": 500}
    with world.rule("web-1", "db_latency", params=params) as one:
        assert world.get("/api/orders?limit=1")[2] >= 0.5
        world.struck(one, 1)


def test_db_error(world: World) -> None:
    """A batch is held until PostgreSQL is there again; no event is blamed."""
    with world.rule("inventory-1", "db_error") as one:
        wait_until(
            lambda: world.consumer("inventory-1")["state"] == "held",
            timeout_s=PATIENCE_S,
            what="the batch is held",
        )
        assert world.consumer("inventory-1")["hold_reason"] == "database"
    wait_until(
        lambda: world.consumer("inventory-1")["state"] != "held",
        timeout_s=PATIENCE_S,
        what="the batch goes on",
    )
    blamed = [
        record
        for record in world.since(one, retry_tier(1).name)
        if "db_error" in header(record, "x-error-message")
    ]
    assert blamed == []


def test_http_latency(world: World) -> None:
    """One route is slow and says why; another is not struck."""
    scope, params = {"route": PRODUCTS}, {"min_ms": 400, "max_ms": 400}
    with world.rule("web-1", "http_latency", scope=scope, params=params) as one:
        status, headers, took_s = world.get(PRODUCTS)
        assert (status, headers[HEADER]) == (200, one.rule.id)
        assert took_s >= 0.4
        assert HEADER not in world.get("/api/orders?limit=1")[1]


def test_http_error(world: World) -> None:
    """The route answers as it is told to, as a problem; metrics see it as any other answer."""
    with world.rule("web-1", "http_error", scope={"route": PRODUCTS}, params={"status": 502}):
        status, headers, _ = world.get(PRODUCTS)
        assert (status, headers["Content-Type"]) == (502, "application/problem+json")
        assert world.get("/api/orders?limit=1")[0] == 200
        with urllib.request.urlopen(f"{world.platform.target.url}/metrics", timeout=30) as reply:
            shown = reply.read().decode()
        assert any(
            'status="502"' in line and f'route="{PRODUCTS}"' in line for line in shown.splitlines()
        )
    assert world.get(PRODUCTS)[0] == 200


def test_http_timeout(world: World) -> None:
    """A client with patience of a second gets nothing."""
    with (
        world.rule("web-1", "http_timeout", scope={"route": PRODUCTS}),
        pytest.raises((TimeoutError, urllib.error.URLError)),
    ):
        world.get(PRODUCTS, timeout_s=1.0)
    assert world.get(PRODUCTS)[0] == 200


def test_memory_leak(world: World) -> None:
    """The process grows to the cap and gives it back."""
    process = psutil.Process(world.platform.pid("dlq-1"))
    before = process.memory_info().rss
    with world.rule("dlq-1", "memory_leak", params={"mb_per_s": 100, "cap_mb": 100}):
        wait_until(
            lambda: process.memory_info().rss - before >= 90 * MEGABYTE,
            timeout_s=PATIENCE_S,
            what="90 MB more",
        )
    wait_until(
        lambda: process.memory_info().rss - before < 50 * MEGABYTE,
        timeout_s=PATIENCE_S,
        what="it is freed",
    )


def test_cpu_burn(world: World) -> None:
    """The process computes for seconds although it has nothing to do, and can still be told to
    stop."""
    process = psutil.Process(world.platform.pid("dlq-1"))
    threads = process.num_threads()

    def used_s() -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    with world.rule("dlq-1", "cpu_burn", params={"share": 0.6, "seconds": 120}):
        began_s, used_before_s = time.monotonic(), used_s()
        wait_until(
            lambda: used_s() - used_before_s >= 1.0, timeout_s=PATIENCE_S, what="a second of CPU"
        )
        # idle it would take as many minutes
        assert time.monotonic() - began_s < 60.0
    wait_until(
        lambda: process.num_threads() <= threads, timeout_s=PATIENCE_S, what="the thread ended"
    )


def test_every_kind_was_seen_and_all_books_agree(world: World) -> None:
    """Runs last: no order was lost, doubled or left behind by any of it."""
    assert KINDS.keys() == TESTED
    world.traffic.flow(8)
    world.traffic.stop()
    target = world.platform.target
    done = run_audit(target, target.ledgers(), deadline_s=150.0)
    assert done.exit_code == 0, f"{done.text}\n{done.sentence}"
    damaged = world.platform.records([dlt_of(SHIPPING_REQUESTED.name)])
    assert {header(letter, "x-error-reason") for letter in damaged} <= DAMAGED
    assert Platform.letters(done) == len(damaged), done.text
    wait_until(
        lambda: not world.platform.unfinished(), timeout_s=PATIENCE_S, what="nothing is left to do"
    )
