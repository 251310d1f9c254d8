"""Facts about chaos rules from the API to the workers, on a real broker and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from typer.testing import CliRunner, Result

from app.db import audit_log, outbox
from app.db.engine import Database
from app.errors import BrokerOutage, SymphonyError
from chaos.control.agent import Agent
from chaos.control.command import register
from chaos.control.context import CHANGES
from chaos.lab.broker import Broker
from tests.integration.api_client import problem
from tests.integration.chaos_kit import LEASE, Stage, stage
from tests.waiting import eventually
from web.admission import ADMISSION

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

WAIT_S = 60
TOPIC = "payment.requested"
JSON = {"Content-Type": "application/json"}
REFUND = {"fault": "delay", "scope": {"topic": "payment.refund"}, **LEASE}
DELAY = {"fault": "delay", "scope": {"topic": TOPIC}, "p": 0.3, **LEASE}


@pytest.fixture
async def three(broker: Broker, database: str) -> AsyncIterator[Stage]:
    """The API, two payment workers and one of shipping."""
    workers = (("payment", "payment-1"), ("payment", "payment-2"), ("shipping", "shipping-1"))
    async with stage(broker.bootstrap, database, *workers) as one:
        yield one


async def made(one: Stage, body: Any, status: int = 201, path: str = "rules") -> dict[str, Any]:
    """Make a rule that must be taken; return the answer."""
    answer = await one.client.post(f"/api/chaos/{path}", json=body, headers={"X-Operator": "ada"})
    assert answer.status == status, await answer.text()
    reply: dict[str, Any] = await answer.json()
    return reply


async def symphony(*arguments: str) -> Result:
    """Run `symphony chaos ...` in a thread, as the API lives in this loop."""
    root = typer.Typer()
    register(root)
    return await asyncio.to_thread(lambda: CliRunner().invoke(root, ["chaos", *arguments]))


def in_force(agent: Agent) -> set[str]:
    """The ids of a worker's rules."""
    return set(agent.rules.note())


async def gone(agent: Agent, what: str) -> None:
    """Wait until a worker has no rule any more."""

    async def none() -> bool:
        return not in_force(agent)

    await eventually(none, timeout_s=WAIT_S, what=what)


async def test_a_rule_is_answered_when_every_targeted_worker_has_it(three: Stage) -> None:
    """Made, read, told in the status, replaced, deleted; each recorded with who and why."""
    scope = {"topic": TOPIC, "roles": ["payment"]}
    reply = await made(three, {**DELAY, "id": "late", "scope": scope})
    assert reply["enabled"] is True
    assert reply["workers"] == ["payment-1", "payment-2"]
    assert reply["pending"] == []
    assert in_force(three.agents["payment-1"]) == in_force(three.agents["payment-2"]) == {"late"}
    assert in_force(three.agents["shipping-1"]) == set()
    shown = await (await three.client.get("/api/chaos/rules/late")).json()
    assert (shown["owner"], shown["p"], shown["ttlS"]) == ("ada", 0.3, 600.0)
    status = await (await three.client.get("/api/chaos/status")).json()
    assert status["kafka"] is True
    (told,) = status["rules"]
    assert told["enabled"] is True
    assert {row["worker"] for row in told["workers"]} == {"payment-1", "payment-2"}
    assert {row["worker"] for row in status["workers"]} == set(three.agents)
    changed = await three.client.put("/api/chaos/rules/late", json={**DELAY, "p": 0.5})
    assert changed.status == 200, await changed.text()
    assert (await changed.json())["version"] > reply["version"]
    listed = (await (await three.client.get("/api/chaos/rules")).json())["rules"]
    assert [rule["p"] for rule in listed] == [0.5]
    ended = await three.client.delete("/api/chaos/rules/late?reason=enough")
    assert (await ended.json())["deleted"] == ["late"]
    assert all(not in_force(agent) for agent in three.agents.values())
    await problem(await three.client.delete("/api/chaos/rules/late"), 404)
    acts = await audit_log.recent(three.db, 10, target="late")
    assert [(act.action, act.reason) for act in reversed(acts)] == [
        ("chaos.rule.make", "test"),
        ("chaos.rule.put", "test"),
        ("chaos.rule.delete", "enough"),
    ]
    assert acts[-1].actor == "ada"


async def test_what_is_wrong_changes_nothing(three: Stage) -> None:
    """Bad JSON, bad members, conflicts, a refusal of a worker: no rule stays, none is published."""
    post = three.client.post
    version = three.agents["web-1"].board.version
    bad: tuple[tuple[Any, int, str], ...] = (
        ({**DELAY, "p": 0}, 422, "invalid_request"),
        ({**DELAY, "fault": "explode"}, 422, "invalid_rule"),
        ({**DELAY, "scope": {"topic": "order.cooked"}}, 422, "invalid_rule"),
        ({**DELAY, "scope": {"workers": ["payment-9"]}}, 422, "invalid_rule"),
        ({**DELAY, "scope": {"roles": ["inventory"]}}, 422, "invalid_rule"),
        ({**DELAY, "expiresAt": "2020-01-01T00:00:00Z", "ttlS": None}, 422, "invalid_rule"),
        ({"fault": "delay"}, 422, "invalid_rule"),
        ({**DELAY, "ttlS": 10**6}, 422, "invalid_rule"),
        ({"fault": "drop", "scope": {"topic": "order.created"}, **LEASE}, 422, "invalid_rule"),
        ({TOPIC: {"pDrop": 0.1}, "order.cooked": {"pDrop": 0.1}}, 422, "invalid_rule"),
        ({TOPIC: {"pDrop": 2}}, 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ([], 422, "invalid_request"),
    )
    for body, status, code in bad:
        assert (await problem(await post("/api/chaos/rules", json=body), status))["code"] == code
    await problem(await post("/api/chaos/rules", data=b"{", headers=JSON), 400)
    await problem(await three.client.put("/api/chaos/rules/a%20b", json=DELAY), 422)
    await problem(await three.client.put("/api/chaos/rules/none", json={"pDrop": 0.1}), 422)
    assert three.agents["web-1"].board.version == version
    await made(three, {**DELAY, "id": "first", "p": 1})
    conflict = await problem(await post("/api/chaos/rules", json={**DELAY, "p": 1}), 409)
    assert (conflict["code"], "first" in conflict["detail"]) == ("rule_conflict", True)
    three.change("payment-2", chaos_rules_max=1)
    refused = await problem(await post("/api/chaos/rules", json={**REFUND, "id": "more"}), 409)
    assert refused["code"] == "rule_refused"
    assert list(refused["refused"]) == ["payment-2"]
    replacing = {"payment.refund": {"pDup": 0.1, "maxDelayMs": 5}}
    refused = await problem(await post("/api/chaos/rules", json=replacing), 409)
    assert "chaos_rules_max" in refused["refused"]["payment-2"]

    async def as_before() -> bool:
        agents = (three.agents[name] for name in ("payment-1", "payment-2"))
        return all(in_force(agent) == {"first"} for agent in agents)

    await eventually(as_before, timeout_s=WAIT_S, what="what was replaced is in force again")
    (act,) = await audit_log.recent(three.db, 1)
    assert act.action == "chaos.rules.replace.refused"
    assert "first" in act.target
    await made(three, {**DELAY, "id": "first", "p": 0.9})
    assert in_force(three.agents["payment-1"]) == {"first"}


async def test_enabled_is_never_said_of_a_worker_that_did_not_say_so(
    broker: Broker, database: str
) -> None:
    """A live worker that is silent is named, with 202; once it is gone nobody waits for it."""
    async with stage(broker.bootstrap, database, ("payment", "payment-1")) as one:
        one.change("web-1", control_ack_wait_s=1.0)
        await one.ghost("payment", "payment-2")
        reply = await made(one, {**DELAY, "id": "late"}, 202)
        assert (reply["enabled"], reply["pending"]) == (False, ["payment-2"])
        assert reply["reasons"] == {"payment-2": "it has not said so yet"}
        status = await (await one.client.get("/api/chaos/status")).json()
        assert status["rules"][0]["enabled"] is False
        silent = [row for row in status["workers"] if row["worker"] == "payment-2"]
        assert silent[0]["saidAt"] is None
        await one.bury("payment-2")
        reply = await made(one, {**DELAY, "id": "late"})
        assert (reply["enabled"], reply["workers"]) == (True, ["payment-1"])


async def test_enabled_is_never_said_of_a_worker_that_takes_the_rule_for_over(
    three: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock is an hour ahead: it reads the rule, and does not have it."""
    ahead = three.agents["payment-1"].rules
    monkeypatch.setattr(ahead, "_wall", lambda: time.time() + 3600)
    reply = await made(three, {**DELAY, "id": "late", "scope": {"roles": ["payment"]}}, 202)
    assert (reply["enabled"], reply["workers"]) == (False, ["payment-2"])
    assert "late is over there" in reply["reasons"]["payment-1"]


async def test_a_change_that_kafka_did_not_confirm_stands_in_the_audit_log(
    three: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker took it and the answer was lost: 503 says that it is open, and all of it came."""
    assert three.client.app is not None
    publisher = three.client.app[CHANGES].publisher
    take = publisher.publish_all

    async def unanswered(changes: Any) -> int:
        await take(changes)
        raise BrokerOutage("no answer")

    monkeypatch.setattr(publisher, "publish_all", unanswered)
    both = {TOPIC: {"pDup": 0.1, "maxDelayMs": 5}}
    refused = await problem(await three.client.post("/api/chaos/rules", json=both), 503)
    assert "all of it may still take effect" in refused["detail"]
    acts = await audit_log.recent(three.db, 10)
    assert sorted(act.action for act in acts) == [
        "chaos.rules.replace",
        "chaos.rules.replace",
        "chaos.rules.replace.unconfirmed",
    ]

    async def came() -> bool:
        return in_force(three.agents["payment-1"]) == {f"{TOPIC}:duplicate", f"{TOPIC}:delay"}

    await eventually(came, timeout_s=WAIT_S, what="both rules are in force")


async def test_a_lease_ends_a_rule_whatever_became_of_its_owner(three: Stage) -> None:
    """Nobody deletes it; every worker ends it by its own clock, and the record is swept later."""
    answer = await three.client.post("/api/chaos/rules", json={**DELAY, "id": "short", "ttlS": 1.0})
    assert answer.status in (201, 202), "202: it was over before everybody had said so"
    await gone(three.agents["payment-1"], "the lease ends the rule")
    await gone(three.agents["payment-2"], "the lease ends the rule")
    web = three.agents["web-1"]
    await made(three, {**REFUND, "id": "next"})

    async def swept() -> bool:
        return web.rules.stale() == []

    await eventually(swept, timeout_s=WAIT_S, what="the dead record is deleted")


async def test_without_kafka_nothing_can_be_changed_and_the_switch_ends_everything(
    three: Stage, broker: Broker
) -> None:
    """The broker is suspended: 503 for a change, the switch works, newer rules live again."""
    await made(three, {**DELAY, "id": "late", "p": 1})
    three.change("web-1", control_timeout_s=1.0)
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        refused = await problem(await three.client.post("/api/chaos/rules", json=REFUND), 503)
        assert refused["code"] == "kafka_unavailable"
        three.change("web-1", api_request_timeout_s=10.0)
        for what in ("phantom-event", "lost-event"):
            refused = await problem(await three.client.post(f"/api/chaos/{what}"), 503)
            assert refused["code"] == "broker_away"
            assert "nothing was broken" in refused["detail"]
        acts = await audit_log.recent(three.db, 10)
        assert not any(act.action.startswith("chaos.provoke") for act in acts)
        began = time.monotonic()
        answer = await three.client.post("/api/chaos/kill", json={"reason": "enough"})
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["epoch"] == 1
        for agent in three.agents.values():
            await gone(agent, "the switch ends every rule")
        assert time.monotonic() - began < WAIT_S
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    three.change("web-1", control_timeout_s=10.0, api_request_timeout_s=30.0)
    (act,) = await audit_log.recent(three.db, 1)
    assert (act.action, act.reason, act.detail) == ("chaos.kill", "enough", {"epoch": 1})
    reply = await made(three, {**DELAY, "id": "again"})
    assert reply["rules"][0]["epoch"] == 1
    assert in_force(three.agents["payment-1"]) == {"again"}


async def test_what_faults_hold_keeps_neither_deletion_nor_the_switch_out(three: Stage) -> None:
    """All places are taken by requests that are held, then all connections of the API."""
    client, places = three.client, 2
    assert client.app is not None
    admission = client.app[ADMISSION]
    admission.most = places
    await made(three, {"fault": "http_timeout", "id": "silent", **LEASE})
    held = [asyncio.create_task(client.get("/api/products")) for _ in range(places)]

    async def full() -> bool:
        return admission.running == places

    await eventually(full, timeout_s=WAIT_S, what="every place is taken")
    refused = await problem(await client.get("/api/orders"), 503)
    assert refused["code"] == "overloaded"
    assert (await client.delete("/api/chaos/rules")).status == 200
    assert [answer.status for answer in await asyncio.gather(*held)] == [200] * places
    admission.most = 100
    late = {"fault": "db_latency", "params": {"min_ms": 3000, "max_ms": 3000}, **LEASE}
    await made(three, {**late, "scope": {"roles": ["web"]}})
    victims = [asyncio.create_task(client.get("/api/orders")) for _ in range(12)]

    async def used_up() -> bool:
        pool = three.db.pool
        return not pool.idle and not pool.unopened

    await eventually(used_up, timeout_s=WAIT_S, what="every connection is in a victim's hands")
    assert (await (await client.get("/api/chaos/status")).json())["rules"][0]["enabled"] is True
    assert (await client.post("/api/chaos/kill", json={"reason": "hurts"})).status == 200
    assert in_force(three.agents["web-1"]) == set()
    await asyncio.gather(*victims)


async def test_hits_are_told_on_their_topic_and_in_the_status(three: Stage, broker: Broker) -> None:
    """One message a rule and interval, with count and version; the status sums over workers."""
    rule = {"fault": "http_error", "id": "broken", "params": {"status": 503}, **LEASE}
    await made(three, {**rule, "scope": {"route": "/api/orders"}})
    answers = [(await three.client.get("/api/orders")).status for _ in range(5)]
    assert answers == [503] * 5
    assert (await three.client.get("/api/products")).status == 200
    consumer = AIOKafkaConsumer(
        "chaos.injected", bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        told, heads, versions = 0, set(), set()
        async with asyncio.timeout(WAIT_S):
            while told < 5:
                record = await consumer.getone()
                if record.key == b"broken":
                    said = json.loads(record.value)
                    told += said["hits"]
                    versions.add(said["rule_version"])
                    heads.add(dict(record.headers)["ce_type"])
    finally:
        await consumer.stop()
    assert (told, heads) == (5, {b"chaos.injected.v1"})
    assert versions == {three.agents["web-1"].rules.known()["broken"].version} - {0}

    async def summed() -> bool:
        status = await (await three.client.get("/api/chaos/status")).json()
        return bool(status["rules"][0]["hits"] == 5)

    await eventually(summed, timeout_s=WAIT_S, what="five hits in the status")


async def test_the_short_form_by_topic_replaces_and_shows_rules(three: Stage) -> None:
    """POST replaces all rules, PUT those of a topic, and GET and DELETE take the topic's name."""
    await made(three, {**REFUND, "id": "old"})
    reply = await made(three, {TOPIC: {"pDrop": 0.1, "pDup": 0.2, "maxDelayMs": 50}})
    assert reply["enabled"] is True
    assert reply["deleted"] == ["old"]
    assert in_force(three.agents["payment-1"]) == {
        f"{TOPIC}:drop",
        f"{TOPIC}:delay",
        f"{TOPIC}:duplicate",
    }
    url = f"/api/chaos/rules/{TOPIC}"
    shown = await (await three.client.get(url)).json()
    assert shown == {"pDrop": 0.1, "pDup": 0.2, "maxDelayMs": 50.0, "pCorrupt": 0.0}
    put = await three.client.put(url, json={"pDrop": 0.4})
    assert put.status == 200, await put.text()
    assert (await (await three.client.get(url)).json())["pDup"] == 0.0
    assert (await three.client.delete(url)).status == 200
    assert (await (await three.client.get("/api/chaos/rules")).json())["rules"] == []


async def test_the_chaos_of_the_api_strikes_real_requests(three: Stage) -> None:
    """Configured, enabled, injected and disabled, below /chaos and /api/chaos alike."""
    client = three.client
    config = {"enabled": True, "errorRate": 1.0, "errorStatus": 502, "timeoutRate": 0}
    put = await client.put("/chaos/config", json={**config, "latency": {"probability": 0}})
    assert put.status == 200, await put.text()
    assert (await client.get("/api/orders")).status == 502
    shown = await (await client.get("/api/chaos/config")).json()
    assert (shown["enabled"], shown["errorRate"]) == (True, 1.0)
    assert shown["expiresAt"] is not None
    assert (await client.post("/api/chaos/disable")).status == 200
    assert (await client.get("/api/orders")).status == 200
    shown = await (await client.get("/chaos/config")).json()
    assert (shown["enabled"], shown["errorRate"]) == (False, 1.0)
    assert (await client.post("/chaos/enable")).status == 200
    assert (await client.get("/api/orders")).status == 502
    assert (await client.post("/chaos/disable")).status == 200
    began = time.monotonic()
    late = "/chaos/inject/latency?min=300&max=400&durationS=60"
    assert (await client.post(late)).status == 200
    began = time.monotonic()
    assert (await client.get("/api/orders")).status == 200
    assert time.monotonic() - began >= 0.3
    assert (await client.post("/chaos/inject/error", json={"status": 500})).status == 200
    assert (await client.get("/api/orders")).status == 500
    picked = await (await client.post("/chaos/disable")).json()
    assert set(picked["change"]["deleted"]) == {"inject-latency", "inject-error"}
    reply = await (await client.post("/api/chaos/inject/random", json={"seed": 1})).json()
    assert reply["enabled"] is True
    await problem(await client.post("/chaos/inject/latency?min=x"), 400)
    impossible: tuple[dict[str, Any], ...] = (
        {"latency": {"min": 200, "max": 100}},
        {"errorStatus": 499},
        {"ttlS": 10**6},
    )
    for body in impossible:
        await problem(await client.put("/chaos/config", json=body), 422)
    too_much = {"errorRate": 1.0, "timeoutRate": 0.5}
    await problem(await client.put("/chaos/config", json=too_much), 409)
    kept = await (await client.get("/chaos/config")).json()
    assert (kept["errorStatus"], kept["ttlS"]) == (502, 600.0)
    await problem(await client.post("/chaos/inject/latency?min=200&max=100"), 400)
    await problem(await client.post("/chaos/inject/error", json={"status": 499}), 422)
    await problem(await client.get("/chaos/test/error"), 500)
    leak = await (await client.get("/chaos/test/memory-leak")).json()
    assert leak["rules"][0]["fault"] == "memory_leak"
    assert leak["workers"] == ["web-1"]
    slow = await (await client.get("/chaos/test/slow")).json()
    assert slow["waitedS"] >= 2


async def test_the_commands_make_show_and_end_rules(three: Stage) -> None:
    """on, ls, status, off and kill, in words and as JSON; a wrong rule is one line and exit 1."""
    at = ("--url", str(three.client.make_url("")))
    what = ("delay", "--topic", TOPIC, "-p", "0.3", "--min", "100ms", "--max", "1200ms")
    lease = ("--for", "5m", "--reason", "rehearsal", "--id", "late")
    told = await symphony("on", *what, *lease, "--role", "payment", *at)
    assert told.exit_code == 0, told.output
    assert "in force at payment-1, payment-2" in told.output
    (rule,) = json.loads((await symphony("ls", "--json", *at)).output)
    assert rule["params"] == {"min_ms": 100.0, "max_ms": 1200.0}
    assert (rule["ttlS"], rule["reason"]) == (300.0, "rehearsal")
    assert "topic=payment.requested" in (await symphony("ls", *at)).output
    shown = (await symphony("status", *at)).output
    assert "kill switch at 0" in shown
    assert "late: delay, in force, 0 hits" in shown
    assert "late: ended" in (await symphony("off", "late", "--reason", "enough", *at)).output
    assert "no chaos rule" in (await symphony("ls", *at)).output
    refused = await symphony("on", "explode", "--for", "5m", "--reason", "x", *at)
    assert isinstance(refused.exception, SymphonyError)
    assert "unknown fault 'explode'" in str(refused.exception)
    wrong = await symphony("on", "delay", "--for", "5x", "--reason", "x", *at)
    assert "a duration is expected" in str(wrong.exception)
    assert "every rule made before has ended" in (await symphony("kill", *at)).output
    assert "kill switch at 1" in (await symphony("status", *at)).output
    assert "http_error" in (await symphony("kinds")).output


async def test_a_provoked_event_is_looked_for_in_both_books(three: Stage) -> None:
    """Rolled back, it stands in neither; committed where no relay runs, it waits: not lost."""
    undone = await made(three, {}, 200, "phantom-event")
    assert (undone["stored"], undone["published"], undone["defect"]) == (False, False, "")
    assert undone["dualWrite"] == "symphony lesson dual-write --scenario phantom"
    waiting = await made(three, {}, 200, "lost-event")
    assert (waiting["stored"], waiting["published"], waiting["defect"]) == (True, False, "")
    assert (waiting["waiting"], undone["waiting"]) == (True, False)
    assert (await three.client.get(f"/api/orders/{waiting['orderId']}")).status == 200
    for action, found in (("phantom", undone), ("lost", waiting)):
        (act,) = await audit_log.recent(three.db, 10, target=found["orderId"])
        assert (act.actor, act.action) == ("ada", f"chaos.provoke.{action}")


async def test_an_event_that_is_published_is_seen_among_others(
    three: Stage, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken relay's work: the event of an order that is nowhere; that is a phantom."""
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
    await producer.start()
    is_waiting = outbox.is_waiting

    async def published(db: Database, event_id: str) -> bool:
        (act,) = await audit_log.recent(db, 1)
        for key in ("another", act.target):
            await producer.send_and_wait("order.created", b"{}", key=key.encode())
        return await is_waiting(db, event_id)

    monkeypatch.setattr(outbox, "is_waiting", published)
    try:
        found = await made(three, {}, 200, "phantom-event")
    finally:
        await producer.stop()
    assert (found["stored"], found["published"], found["defect"]) == (False, True, "phantom")
