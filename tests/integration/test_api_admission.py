"""Facts about older addresses of the orders, and about a server with too much to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import psycopg2
import pytest

from bench.api import figures
from bench.sender import Sender, raw
from tests.integration.api_client import (
    AMOUNT,
    Client,
    api,
    count,
    place,
    problem,
    query,
    together,
)
from tests.waiting import eventually
from web.admission import ADMISSION

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    """An API over an empty database."""
    async with api(database) as running:
        yield running


async def test_older_addresses_answer_the_same(client: Client, database: str) -> None:
    """Lists of all and of one customer, and an order without a body."""
    headers = {"Idempotency-Key": "k-1"}
    path = "/api/orders/start?amount=12.50&customerId=ada&shippingAddress=Road+1"
    started = await client.post(path, headers=headers)
    reply = await started.json()
    assert (started.status, reply["total"], reply["currency"]) == (202, "12.50", "EUR")
    again = await client.post(path, headers=headers)
    assert await again.json() == reply
    assert again.headers["Idempotency-Replayed"] == "true"
    other = (await place(client, {"customerId": "bob", "total": "1.00"}))["orderId"]
    every = await (await client.get("/api/orders")).json()
    assert [one["orderId"] for one in every["orders"]] == [other, reply["orderId"]]
    for address in ("/api/orders/all", "/orders"):
        assert await (await client.get(address)).json() == every
    mine = await (await client.get("/api/orders/my-orders?customerId=ada")).json()
    assert [one["orderId"] for one in mine["orders"]] == [reply["orderId"]]
    page = await client.get("/orders", headers={"Accept": "text/html,*/*"})
    assert page.content_type == "text/html"
    assert reply["orderId"] in await page.text()
    await problem(await client.get("/api/orders/my-orders"), 400)
    for given, status in (("amount=1", 400), ("customerId=ada", 400), ("", 400)):
        await problem(await client.post(f"/api/orders/start?{given}"), status)
    for amount in ("0", "-1", "1e3", "x", "0.001"):
        address = f"/api/orders/start?customerId=ada&amount={amount}"
        await problem(await client.post(address), 422)
    assert count(database, "orders.orders") == 2


async def test_requests_beyond_the_bound_are_refused_and_the_others_answered(
    database: str,
) -> None:
    """Three are in and wait for the database; the fourth is refused at once, health is not."""
    async with api(database, api_concurrency_max=3, api_request_timeout_s=60) as client:
        order_id = (await place(client))["orderId"]
        lock = psycopg2.connect(database)
        with lock.cursor() as cursor:
            cursor.execute("lock table orders.orders in access exclusive mode")
        inside = [
            asyncio.create_task(client.get(f"/api/orders/{order_id}")),
            asyncio.create_task(client.get("/api/orders")),
            asyncio.create_task(client.post(f"/api/orders/{order_id}/cancel", json={})),
        ]

        async def full() -> bool:
            return client.app is not None and client.app[ADMISSION].running == 3

        await eventually(full, timeout_s=30, what="three requests inside")
        refused = await client.get("/api/products")
        assert refused.headers["Retry-After"].isdigit()
        assert (await problem(refused, 503))["code"] == "overloaded"
        for path in ("/livez", "/metrics"):
            assert (await client.get(path)).status == 200
        assert not any(task.done() for task in inside)
        lock.rollback()
        lock.close()
        answers = await together(*inside)
        assert [answer.status for answer in answers] == [200, 200, 202]
        assert (await client.get("/api/products")).status == 200


SLOW = """
    create function slow() returns trigger language plpgsql as $$
        begin perform pg_sleep(0.1); return null; end $$;
    create trigger slow before insert on orders.orders execute function slow()
"""


async def test_under_three_times_its_load_the_api_answers_those_it_lets_in_as_soon(
    database: str,
) -> None:
    """Two orders take 100 ms: of 60 a second most get 503, and no 202 waits for those before."""
    query(database, SLOW)
    slow = {"api_writers": 1, "api_batch_max": 2, "api_request_timeout_s": 60}
    async with api(database, **slow, api_queue_wait_max_ms=200) as client:
        await place(client)
        port = client.port or 0
        orders = [raw(f"127.0.0.1:{port}", json.dumps(AMOUNT).encode())] * 180
        found = figures(await Sender("127.0.0.1", port, orders, rate=60).run())
        assert set(found["statuses"]) == {202, 503}, found
        assert found["refused"] > 30, found
        assert found["accepted"] > 15, "writers are kept busy"
        assert found["accepted_p95_ms"] < 2_000, "nine seconds of orders were offered"
        assert found["accepted_p95_ms"] >= 100, "the table is slow"
        assert found["refused_p50_ms"] < 1_000, found
        answers = await together(*(client.post("/api/orders", json=AMOUNT) for _ in range(20)))
        refused = [answer for answer in answers if answer.status != 202]
        assert refused, "twenty at once take a second"
        for answer in refused:
            assert answer.headers["Retry-After"].isdigit()
            assert (await problem(answer, 503))["code"] == "overloaded"
    assert count(database, "orders.orders") == 1 + found["accepted"] + len(answers) - len(refused)
