"""Facts about placing, reading and cancelling orders over HTTP, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from app.db import order_reads
from app.db.migrate import seed
from tests.integration.api_client import (
    AMOUNT,
    Client,
    api,
    count,
    move_saga,
    place,
    problem,
    query,
    together,
)
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

UNKNOWN = "00000000-0000-4000-8000-000000000000"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    """An API over a database with the demonstration catalogue."""
    seed(database)
    async with api(database) as running:
        yield running


async def test_an_amount_only_order_is_durable_with_its_event(
    client: Client, database: str
) -> None:
    """The 202 stands for order, line and outbox row, and the event carries the request's trace."""
    headers = {"X-Request-ID": "request-4711", "traceparent": TRACE, "tracestate": "vendor=1"}
    answer = await client.post("/api/orders", json=AMOUNT, headers=headers)
    assert answer.status == 202
    reply = await answer.json()
    assert answer.headers["Location"] == f"/api/orders/{reply['orderId']}"
    assert answer.headers["X-Request-ID"] == "request-4711"
    assert (reply["status"], reply["total"], reply["totalMinor"]) == ("PENDING", "12.50", 1250)
    [row] = query(
        database,
        "select ce_id, ce_type, ce_correlationid, traceparent, aggregate_id, topic, payload,"
        " tracestate"
        " from ops.outbox",
    )
    event = json.loads(bytes(row[6]))
    assert row[1:6] == (
        "order.created.v1",
        "request-4711",
        row[3],
        reply["orderId"],
        "order.created",
    )
    assert row[3].split("-")[1] == TRACE.split("-")[1]
    assert row[7] == "vendor=1"
    assert (event["order_id"], event["total_minor"]) == (reply["orderId"], 1250)
    assert event["items"] == [
        {"product_id": "AMOUNT", "quantity": 1, "unit_price_minor": 1250, "tracked": False}
    ]
    assert count(database, "orders.orders") == count(database, "orders.order_item") == 1


async def test_the_alias_answers_201(client: Client) -> None:
    """POST /orders is the same with the older status."""
    answer = await client.post("/orders", json=AMOUNT)
    assert answer.status == 201
    assert (await client.get(answer.headers["Location"])).status == 200


async def test_items_get_the_prices_of_the_catalogue(client: Client, database: str) -> None:
    """Server-side prices make the total; a matching claim of the client is fine."""
    items = [
        {"productId": "VIOLIN", "quantity": 2, "unitPrice": 1299.00},
        {"productId": "ROSIN", "quantity": 3},
    ]
    reply = await place(client, {"customerId": "ada", "items": items, "shippingAddress": "Road 1"})
    assert reply["totalMinor"] == 2 * 129_900 + 3 * 990
    order = await (await client.get(f"/api/orders/{reply['orderId']}")).json()
    assert [(line["productId"], line["unitPrice"]) for line in order["items"]] == [
        ("VIOLIN", "1299.00"),
        ("ROSIN", "9.90"),
    ]
    assert order["shippingAddress"] == "Road 1"
    assert order["history"] == []
    [(payload,)] = query(database, "select payload from ops.outbox")
    assert [item["unit_price_minor"] for item in json.loads(bytes(payload))["items"]] == [
        129_900,
        990,
    ]


@pytest.mark.parametrize(
    ("item", "currency", "field"),
    [
        ({"productId": "KAZOO", "quantity": 1}, None, "$.items[0].productId"),
        ({"productId": "AMOUNT", "quantity": 1}, None, "$.items[0].productId"),
        ({"productId": "ROSIN", "quantity": 1, "unitPrice": 9.89}, None, "$.items[0].unitPrice"),
        ({"productId": "ROSIN", "quantity": 1}, "USD", "$.items[0].productId"),
    ],
)
async def test_a_claim_against_the_catalogue_is_a_422_and_stores_nothing(
    client: Client, database: str, item: dict[str, Any], currency: str | None, field: str
) -> None:
    """Unknown products, other prices and other currencies are refused with the member's name."""
    body = {"customerId": "ada", "items": [item], "currency": currency}
    refused = await client.post("/api/orders", json=body, headers={"Idempotency-Key": "k1"})
    assert (await problem(refused, 422))["errors"][0]["field"] == field
    assert count(database, "orders.orders") == count(database, "orders.idempotency") == 0


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"", {}, 400),
        (b'{"customerId":"c","total":' + b"[" * 9000 + b"]" * 9000 + b"}", {}, 400),
        (b'{"customerId":"c","total":1}', {"Content-Type": "text/plain"}, 415),
        (b'{"customerId":"c","total":1}', {"Idempotency-Key": "sp ace"}, 400),
        (b'{"customerId":"c","total":1}', {"Idempotency-Key": "k" * 201}, 400),
        (b'{"customerId":"c","total":0}', {}, 422),
        (b'{"customerId":"c","total":1,"status":"COMPLETED"}', {}, 422),
        (b'{"customerId":"' + b"c" * 70_000 + b'","total":1}', {}, 413),
    ],
)
async def test_a_bad_request_has_its_own_status_and_stores_nothing(
    client: Client, database: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Malformed, nested, foreign, forbidden and oversized bodies are told apart."""
    sent = {"Content-Type": "application/json", **headers}
    await problem(await client.post("/api/orders", data=body, headers=sent), status)
    assert count(database, "orders.orders") == 0


async def test_too_many_items_are_refused(client: Client) -> None:
    """The item limit holds before the database is asked."""
    items = [{"productId": f"P{number}", "quantity": 1} for number in range(101)]
    answer = await client.post("/api/orders", json={"customerId": "c", "items": items})
    assert (await problem(answer, 422))["errors"][0]["field"] == "$.items"


async def test_the_same_key_and_request_get_the_same_reply(client: Client, database: str) -> None:
    """A repeat, even spelled differently, is answered from the stored reply."""
    headers = {"Idempotency-Key": "order-1", "Content-Type": "application/json"}
    first = await client.post("/api/orders", json=AMOUNT, headers=headers)
    spelled = b'{"currency":"EUR",  "total": 12.5, "customerId": "ada"}'
    again = await client.post("/api/orders", data=spelled, headers=headers)
    assert again.status == first.status == 202
    assert await again.read() == await first.read()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    other = await client.post("/api/orders", json={**AMOUNT, "total": 13}, headers=headers)
    assert (await problem(other, 422))["code"] == "idempotency_key_reused"
    assert count(database, "orders.orders") == count(database, "ops.outbox") == 1


async def test_fifty_concurrent_posts_with_one_key_make_one_order(
    client: Client, database: str
) -> None:
    """Whatever batches they land in, one creates the order and all get its id."""
    replies = await together(*(place(client, **{"Idempotency-Key": "once"}) for _ in range(50)))
    assert len({reply["orderId"] for reply in replies}) == 1
    assert count(database, "orders.orders") == count(database, "ops.outbox") == 1


async def test_keys_shared_between_two_servers_make_one_order_each(database: str) -> None:
    """Two servers take the same twenty keys in opposite order: no deadlock, one order per key."""
    keys = [f"key-{number}" for number in range(20)]
    async with api(database) as one, api(database) as other:
        replies = await together(
            *(place(one, **{"Idempotency-Key": key}) for key in keys),
            *(place(other, **{"Idempotency-Key": key}) for key in reversed(keys)),
        )
    assert len({reply["orderId"] for reply in replies}) == len(keys)
    assert count(database, "orders.orders") == len(keys)


async def test_concurrent_orders_share_transactions(client: Client, database: str) -> None:
    """A hundred concurrent orders need fewer than a hundred transactions."""
    replies = await together(*(place(client) for _ in range(100)))
    assert len({reply["orderId"] for reply in replies}) == 100
    transactions = query(database, "select count(distinct xmin::text) from orders.orders")[0][0]
    assert 1 <= transactions < 100
    assert count(database, "ops.outbox") == 100


async def test_a_row_the_database_refuses_fails_alone(client: Client, database: str) -> None:
    """Of a batch with two poisoned orders exactly those two get a 422, the others are stored."""
    query(
        database,
        "alter table orders.orders add constraint no_poison check (customer_id <> 'poison')",
    )
    bodies = [{**AMOUNT, "customerId": "poison" if at in (7, 23) else f"c{at}"} for at in range(40)]
    answers = await together(*(client.post("/api/orders", json=body) for body in bodies))
    statuses = [answer.status for answer in answers]
    assert [at for at, status in enumerate(statuses) if status != 202] == [7, 23]
    assert (await problem(answers[7], 422))["code"] == "not_storable"
    assert count(database, "orders.orders") == count(database, "ops.outbox") == 38


async def test_recent_orders_are_paged_by_key(client: Client) -> None:
    """Every order appears once, newest first, and a full last page leads to an empty one."""
    placed = [(await place(client))["orderId"] for _ in range(6)]
    newest = placed[::-1]
    assert await pages_of(client, "limit=2") == [newest[:2], newest[2:4], newest[4:], []]


async def test_orders_of_one_status_are_paged_by_key(client: Client, database: str) -> None:
    """The status is the saga's, PENDING without one; the pages hold what was asked for."""
    placed = [(await place(client))["orderId"] for _ in range(7)]
    for order_id, state in zip(placed, ["PARKED", "COMPLETED"] * 3, strict=False):
        move_saga(database, order_id, state)
    completed = await pages_of(client, "status=COMPLETED&limit=2")
    assert completed == [[placed[5], placed[3]], [placed[1]]]
    parked = await pages_of(client, "status=PARKED&limit=3")
    assert parked == [[placed[4], placed[2], placed[0]], []]
    assert await pages_of(client, "status=PENDING") == [[placed[6]]]
    assert await pages_of(client, "status=REJECTED") == [[]]


async def test_a_page_of_a_rare_status_looks_at_so_many_orders_and_goes_on(
    client: Client, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may be short or empty before the end; following it finds every order once."""
    placed = [(await place(client))["orderId"] for _ in range(8)]
    for order_id in (placed[0], placed[3], placed[4]):
        move_saga(database, order_id, "PARKED")
    monkeypatch.setattr(order_reads, "LOOKED_MAX", 3)
    pages = await pages_of(client, "status=PARKED&limit=2")
    assert pages == [[], [placed[4], placed[3]], [placed[0]], []]


async def pages_of(client: Client, parameters: str) -> list[list[str]]:
    """Follow a list of orders to its end; return the order ids page by page."""
    pages: list[list[str]] = []
    address = f"/api/orders?{parameters}"
    while True:
        page = await (await client.get(address)).json()
        pages.append([order["orderId"] for order in page["orders"]])
        if page["next"] is None:
            return pages
        address = f"/api/orders?{parameters}&before={page['next']}"


@pytest.mark.parametrize(
    "parameters",
    [
        *("limit=0", "limit=201", "limit=x", "before=abc", "before=%00"),
        "limit=00000000199999",
        pytest.param("limit=000000001" + "0" * 4400, id="limit=longer-than-Python-reads"),
        *("status=", "status=pending", "status=DONE", "status=%00"),
    ],
)
async def test_bad_paging_parameters_are_a_400(client: Client, parameters: str) -> None:
    """Limits are bounded, cursors must be ours and statuses must exist."""
    await problem(await client.get(f"/api/orders?{parameters}"), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/api/orders/{UNKNOWN}", 404),
        ("GET", "/api/orders/not-an-id", 404),
        ("GET", f"/api/sagas/{UNKNOWN}", 404),
        ("GET", "/api/products/KAZOO", 404),
        ("GET", "/api/nothing", 404),
        ("POST", f"/api/orders/{UNKNOWN}/cancel", 404),
        ("DELETE", "/api/orders", 405),
        ("PUT", f"/api/orders/{UNKNOWN}", 405),
    ],
)
async def test_what_is_not_there_is_said_as_a_problem(
    client: Client, method: str, path: str, status: int
) -> None:
    """Unknown ids, addresses and methods are 404 and 405, the latter with the allowed methods."""
    answer = await client.request(method, path)
    await problem(answer, status)
    assert status != 405 or "GET" in answer.headers["Allow"]


async def test_a_cancel_request_is_recorded_once_and_pollable(
    client: Client, database: str
) -> None:
    """The first cancel writes history and event, a repeat changes nothing; both answer 202."""
    order_id = (await place(client))["orderId"]
    for reason in ("changed my mind", "really"):
        answer = await client.post(f"/api/orders/{order_id}/cancel", json={"reason": reason})
        assert answer.status == 202
        assert (await answer.json())["cancelRequested"] is True
    bare = await client.post(f"/api/orders/{order_id}/cancel")
    assert bare.status == 202
    order = await (await client.get(f"/api/orders/{order_id}")).json()
    assert [(entry["event"], entry["reason"]) for entry in order["history"]] == [
        ("cancel_requested", "changed my mind")
    ]
    rows = query(
        database, "select aggregate_id, payload from ops.outbox where topic='order.cancel'"
    )
    assert [(row[0], json.loads(bytes(row[1]))["reason"]) for row in rows] == [
        (order_id, "changed my mind")
    ]


async def test_cancels_that_come_together_are_recorded_once(client: Client, database: str) -> None:
    """Who waited for another's cancel of the same order sees it and records nothing."""
    order_id = (await place(client))["orderId"]
    with closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("select from orders.orders for no key update")
        cancels = [
            asyncio.create_task(client.post(f"/api/orders/{order_id}/cancel")) for _ in range(3)
        ]
        await eventually(lambda: _waiting(database, 3), timeout_s=5, what="three cancels wait")
        other.rollback()
    assert {answer.status for answer in await together(*cancels)} == {202}
    assert count(database, "orders.order_history") == 1


async def _waiting(dsn: str, wanted: int) -> bool:
    return query(dsn, "select count(*) from pg_locks where not granted") == [(wanted,)]


@pytest.mark.parametrize("status", ["COMPLETED", "CANCELLED", "REJECTED"])
async def test_cancelling_a_finished_order_is_a_409(
    client: Client, database: str, status: str
) -> None:
    """What is over cannot be cancelled, and nothing is sent."""
    order_id = (await place(client))["orderId"]
    move_saga(database, order_id, status)
    answer = await client.post(f"/api/orders/{order_id}/cancel")
    assert (await problem(answer, 409))["code"] == "already_final"
    assert query(database, "select 1 from ops.outbox where topic = 'order.cancel'") == []


async def test_products_show_price_and_stock(client: Client) -> None:
    """The catalogue is listed by id without the internal product, a page at a time."""
    page = await (await client.get("/api/products?limit=5")).json()
    assert len(page["products"]) == 5
    rest = await (await client.get(f"/api/products?after={page['next']}")).json()
    known = {product["productId"]: product for product in page["products"] + rest["products"]}
    assert "AMOUNT" not in known
    assert (known["BASS"]["price"], known["BASS"]["available"]) == ("4599.00", 5)
    one = await (await client.get("/api/products/BASS")).json()
    assert one == known["BASS"]


async def test_every_answer_carries_the_security_headers(client: Client) -> None:
    """Success, problem and page alike; scripts only from here, nothing is sniffed or framed."""
    for path in ("/", "/api/orders", "/api/nothing", "/metrics", "/livez"):
        headers = (await client.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "symphony"
        assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-ID"])


async def test_an_unexpected_failure_tells_nothing_of_the_inside(
    client: Client, database: str
) -> None:
    """A missing table is a plain 500 with a request id."""
    order_id = (await place(client))["orderId"]
    query(database, "alter table orders.order_history rename to lost")
    body = await problem(await client.get(f"/api/orders/{order_id}"), 500)
    assert "order_history" not in json.dumps(body)


async def test_requests_are_counted_by_route_not_by_address(client: Client) -> None:
    """The scrape shows the route's pattern, the status and the accepted orders."""
    order_id = (await place(client))["orderId"]
    await client.get(f"/api/orders/{order_id}")
    await client.get("/api/nothing/at/all")
    text = await (await client.get("/metrics")).text()
    assert 'route="/api/orders/{order_id}",status="200"' in text
    assert 'route="unmatched",status="404"' in text
    assert order_id not in text
    assert 'symphony_api_orders_total{outcome="accepted"}' in text
