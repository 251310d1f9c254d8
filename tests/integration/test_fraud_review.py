"""Facts about fraud review on a real PostgreSQL: scored at intake, decided once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from app import failpoints
from app.errors import DatabaseOutage
from chaos.lab.process import free_port
from tests.integration.api_client import (
    Client,
    api,
    count,
    move_saga,
    place,
    problem,
    query,
    together,
)
from tests.integration.test_console import symphony
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

UNKNOWN = "00000000-0000-4000-8000-000000000000"
BY_DAY = {"fraud_night_points": 0}
"""Whatever the hour at which the tests run."""


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    """An API over an empty database."""
    async with api(database, **BY_DAY) as running:
        yield running


def amount(total: str, customer: str = "ada") -> dict[str, str]:
    return {"customerId": customer, "total": total, "currency": "EUR"}


async def status_of(client: Client, total: str, customer: str = "ada", **headers: str) -> str:
    reply = await place(client, amount(total, customer), **headers)
    return str(reply["status"])


async def decide(client: Client, order_id: str, act: str, body: Any, who: str = "eve") -> Any:
    path = f"/api/orders/{order_id}/{act}"
    return await client.post(path, json=body, headers={"X-Operator": who})


def events(dsn: str) -> list[tuple[str, dict[str, Any]]]:
    rows = query(dsn, "select topic, payload from ops.outbox order by id")
    return [(topic, json.loads(bytes(payload))) for topic, payload in rows]


async def test_an_order_is_told_honestly_what_becomes_of_it(client: Client, database: str) -> None:
    """Accepted, held or rejected: one transaction writes order, score and events."""
    assert await status_of(client, "1000.00") == "PENDING"
    held = await place(client, amount("1234.56", "bob"))
    rejected = await place(client, amount("5000.00", "eve"))
    assert (held["status"], rejected["status"]) == ("REVIEW", "REVIEW")
    for _ in range(4):
        await place(client, amount("1.00", "eve"))
    rejected = await place(client, amount("5000.00", "eve"))
    assert rejected["status"] == "REJECTED"
    read = await (await client.get(f"/api/orders/{held['orderId']}")).json()
    assert read["status"] == "REVIEW"
    listed = await (await client.get("/api/orders?status=REVIEW")).json()
    assert held["orderId"] in [one["orderId"] for one in listed["orders"]]
    score = await (await client.get(f"/api/orders/{rejected['orderId']}/review")).json()
    assert (score["score"], score["decision"], score["decidedAt"]) == (100, "AUTO_REJECTED", None)
    assert [one["rule"] for one in score["reasons"]] == ["total", "velocity", "round_total"]
    of_rejected = [
        (topic, body) for topic, body in events(database) if body["order_id"] == rejected["orderId"]
    ]
    assert [(topic, body.get("review"), body.get("approved")) for topic, body in of_rejected] == [
        ("order.created", True, None),
        ("order.reviewed", None, False),
    ]
    assert of_rejected[1][1]["reviewed_by"] == "fraud rules"
    plain = await (await client.get("/api/orders?limit=1&status=PENDING")).json()
    await problem(await client.get(f"/api/orders/{plain['orders'][0]['orderId']}/review"), 404)


async def test_velocity_survives_the_server(database: str) -> None:
    """A server is killed after five orders; the next one knows them."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bench.api", "--serve", database, str(port)]
    server = await asyncio.to_thread(subprocess.Popen, command)
    try:
        async with aiohttp.ClientSession(url) as session:

            async def ready() -> bool:
                try:
                    async with session.get("/readyz") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(ready, timeout_s=60, what="a server in a process of its own")
            for _ in range(5):
                async with session.post("/api/orders", json=amount("1.00")) as answer:
                    assert answer.status == 202
    finally:
        server.kill()
        server.wait(20)
    async with api(database, **BY_DAY) as successor:
        assert await status_of(successor, "2050.00", "another") == "REVIEW"
        assert await status_of(successor, "2050.00") == "REJECTED"


async def test_velocity_is_forgotten_after_its_window(client: Client, database: str) -> None:
    """An hour later the same customer starts anew; an order of just within it counts."""
    for _ in range(5):
        await place(client)
    query(database, "update orders.orders set created_at = created_at - interval '59 minutes'")
    assert await status_of(client, "2050.00") == "REJECTED"
    query(database, "update orders.orders set created_at = created_at - interval '2 minutes'")
    assert await status_of(client, "2050.00") == "REVIEW"


async def test_orders_at_once_do_not_slip_through(database: str) -> None:
    """Twelve orders of one customer on two servers are scored as if they had come one by one."""
    async with api(database, **BY_DAY) as one, api(database, **BY_DAY) as other:
        found = await together(
            *(status_of(server, "2050.00", "mallory") for server in (one, other) * 6)
        )
        assert Counter(found) == {"REVIEW": 5, "REJECTED": 7}
    scores = query(database, "select score from orders.fraud_review order by score")
    assert [score for (score,) in scores] == [50, 50, 70, 70, 70, *[90] * 7]


async def test_a_repeat_of_a_key_does_not_count_for_others(client: Client, database: str) -> None:
    """Asked for ten times at once and again, it is one order; so the next is the second."""
    headers = {"Idempotency-Key": "k-1"}
    await together(*(place(client, amount("10.01"), **headers) for _ in range(10)))
    await together(
        *(place(client, amount("10.01"), **headers) for _ in range(5)),
        place(client, amount("2000.01")),
    )
    assert query(database, "select score from orders.fraud_review") == [(35,)]
    assert count(database, "orders.orders") == 2


async def test_what_was_told_before_a_lost_commit_is_told_again(database: str) -> None:
    """COMMIT went unanswered; meanwhile the customer's score rose, but the order was stored."""
    async with api(database, **BY_DAY, api_batch_max=1, api_writers=1) as client:
        for _ in range(4):
            await place(client)
        lost = 0

        async def lose_the_answer(_: Any) -> None:
            nonlocal lost
            lost += 1
            if lost == 1:
                await place_elsewhere(database)
                raise DatabaseOutage("the answer was lost")

        failpoints.install("web.after_commit", lose_the_answer)
        try:
            reply = await place(client, amount("2050.00"), **{"Idempotency-Key": "k-1"})
        finally:
            failpoints.remove("web.after_commit")
        assert lost > 1
        assert reply["status"] == "REVIEW"
        again = await place(client, amount("2050.00"), **{"Idempotency-Key": "k-1"})
        assert again == reply
    assert query(database, "select score, decision from orders.fraud_review") == [(70, "")]


async def place_elsewhere(dsn: str) -> None:
    query(
        dsn,
        "insert into orders.orders (order_id, customer_id, total_minor, currency, created_at)"
        " select gen_random_uuid(), 'ada', 1, 'EUR', now() from generate_series(1, 5)",
    )


async def test_checks_may_be_off(database: str) -> None:
    """Nothing is scored, nothing is held."""
    async with api(database, fraud_checks=False) as client:
        assert await status_of(client, "99999.00") == "PENDING"
    assert count(database, "orders.fraud_review") == 0


async def test_the_queue_is_paged_from_the_longest_waiting(client: Client, database: str) -> None:
    """Scores, reasons and ages; whoever was cancelled or decided is not in it."""
    ids = [(await place(client, amount("2000.01", f"c{n}")))["orderId"] for n in range(5)]
    move_saga(database, ids[0], "REVIEW")
    move_saga(database, ids[1], "CANCELLED", "customer")
    assert (await decide(client, ids[2], "approve", {})).status == 202
    pages, after = [], ""
    while True:
        answer = await client.get(f"/api/orders/pending-review?limit=2{after}")
        page = await answer.json()
        pages.append([one["orderId"] for one in page["orders"]])
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert pages == [[ids[0], ids[3]], [ids[4]]]
    [first] = (await (await client.get("/api/orders/pending-review?limit=1")).json())["orders"]
    assert (first["score"], first["total"], first["customerId"]) == (35, "2000.01", "c0")
    assert first["reasons"][0]["rule"] == "total"
    assert 0 <= first["ageS"] < 600
    await problem(await client.get("/api/orders/pending-review?after=zzz"), 400)


@pytest.mark.parametrize(("act", "decision"), [("approve", "APPROVED"), ("reject", "REJECTED")])
async def test_a_decision_is_an_event_and_an_audited_act(
    client: Client, database: str, act: str, decision: str
) -> None:
    """One transaction has the decision, the event for the saga, and who did it."""
    order_id = (await place(client, amount("1234.56")))["orderId"]
    answer = await decide(client, order_id, act, {"reason": "I asked"})
    reply = await answer.json()
    assert answer.status == 202, reply
    assert (reply["decision"], reply["decidedBy"], reply["reason"]) == (decision, "eve", "I asked")
    topic, body = events(database)[-1]
    assert topic == "order.reviewed"
    assert (body["approved"], body["reviewed_by"]) == (decision == "APPROVED", "eve")
    assert query(database, "select actor, action, target, reason from ops.audit_log") == [
        ("eve", f"order.{act}", order_id, "I asked")
    ]
    for other in ("approve", "reject"):
        refused = await problem(await decide(client, order_id, other, {"reason": "no"}), 409)
        assert refused["code"] == "already_decided"
    assert len(events(database)) == 2
    assert count(database, "ops.audit_log") == 1


async def test_what_cannot_be_decided_is_refused(client: Client, database: str) -> None:
    """Unknown, never held, rejected by the rules, cancelled; a rejection without a reason."""
    await problem(await decide(client, UNKNOWN, "approve", {}), 404)
    plain = (await place(client))["orderId"]
    refused = await problem(await decide(client, plain, "reject", {"reason": "no"}), 409)
    assert refused["code"] == "not_under_review"
    held = (await place(client, amount("1234.56")))["orderId"]
    for body in ({}, {"reason": ""}, {"reason": "a\x07"}, {"why": "x"}):
        await problem(await decide(client, held, "reject", body), 422)
    await problem(await decide(client, held, "approve", {}, who="e" * 101), 400)
    for state in ("CANCELLED", "PAYMENT_PENDING"):
        query(database, "delete from orders.saga")
        move_saga(database, held, state)
        told = await problem(await decide(client, held, "approve", {}), 409)
        assert state in told["detail"]
    assert count(database, "ops.audit_log") == 0


async def test_of_two_reviewers_at_once_one_decides(client: Client, database: str) -> None:
    """Whoever is first wins, the others are told so; there is one event."""
    order_id = (await place(client, amount("1234.56")))["orderId"]
    calls = [
        decide(client, order_id, act, {"reason": "mine"}, who=f"reviewer-{number}")
        for number, act in enumerate(["approve", "reject"] * 4)
    ]
    answers = await together(*calls)
    assert Counter(answer.status for answer in answers) == {202: 1, 409: 7}
    [winner] = [await answer.json() for answer in answers if answer.status == 202]
    [(decision, by)] = query(database, "select decision, decided_by from orders.fraud_review")
    assert (decision, by) == (winner["decision"], winner["decidedBy"])
    [reviewed] = [body for topic, body in events(database) if topic == "order.reviewed"]
    assert reviewed["approved"] == (decision == "APPROVED")
    assert count(database, "ops.audit_log") == 1


async def test_stored_orders_are_counted(client: Client) -> None:
    """Scanned, flagged, rejected, decided: each once, replays not at all."""

    async def counted() -> dict[str, float]:
        text = await (await client.get("/metrics")).text()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in text.splitlines())
            if name.startswith("symphony_fraud_orders")
        }

    before = await counted()
    held = (await place(client, amount("1234.56"), **{"Idempotency-Key": "k-1"}))["orderId"]
    await place(client, amount("1234.56"), **{"Idempotency-Key": "k-1"})
    await place(client, amount("1.23", "bob"))
    await decide(client, held, "approve", {})
    after = await counted()
    grew = {name: value - before.get(name, 0) for name, value in after.items()}
    assert {name: value for name, value in grew.items() if value} == {
        "symphony_fraud_orders_scanned_total": 2,
        "symphony_fraud_orders_flagged_total": 1,
        'symphony_fraud_orders_decided_total{decision="approved"}': 1,
    }


async def test_the_console_decides(client: Client) -> None:
    """`symphony review` lists, shows, approves and rejects, in words and as JSON."""
    url = str(client.make_url(""))
    none = await symphony("review", "ls", "--url", url)
    assert "no order waits for a review" in none.output
    first, second = [
        (await place(client, amount("1234.56", customer)))["orderId"] for customer in ("a", "b")
    ]
    listed = await symphony("review", "ls", "--url", url)
    assert first in listed.output
    assert "the total is more than 1000" in listed.output
    found = json.loads((await symphony("review", "ls", "--url", url, "--json")).output)
    assert [one["orderId"] for one in found] == [first, second]
    approved = await symphony("review", "approve", first, "--as", "eve", "--url", url)
    assert approved.exit_code == 0
    assert f"APPROVED by eve: {first}" in approved.output
    rejected = await symphony(
        *("review", "reject", second, "--reason", "stolen card", "--url", url, "--json")
    )
    assert json.loads(rejected.output)["decision"] == "REJECTED"
    shown = await symphony("review", "show", second, "--url", url)
    assert "REJECTED by" in shown.output
    assert "stolen card" in shown.output
    again = await symphony("review", "approve", second, "--url", url)
    assert again.exit_code != 0
