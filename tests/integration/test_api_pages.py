"""Facts about sagas over HTTP and the live pages."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg2
import pytest

from app.domain.definition import State
from app.domain.record import SCHEMA, Saga, StepRecord, to_bytes
from tests.integration.api_client import Client, api, place, problem, query

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    """An API over an empty database."""
    async with api(database) as running:
        yield running


def store_saga(dsn: str, order_id: str, body: bytes | None = None) -> None:
    """Write what the orchestrator would have written for an order out of stock."""
    saga = Saga(
        schema=SCHEMA,
        definition="order.v1",
        order_id=order_id,
        version=4,
        state=State.CANCELLED,
        reason="out_of_stock",
        steps=(
            StepRecord("COMPENSATED", reference="pay-1"),
            StepRecord("FAILED"),
            StepRecord(),
            StepRecord(),
        ),
    )
    query(
        dsn,
        "insert into orders.saga (order_id, partition, version, state, reason, terminal, body,"
        " created_at, updated_at) values (%s, 0, 4, 'CANCELLED', 'out_of_stock', true, %s, %s, %s)",
        order_id,
        psycopg2.Binary(body or to_bytes(saga)),
        NOW,
        NOW,
    )
    for version, status, reason in (
        (1, "PAYMENT_PENDING", ""),
        (2, "INVENTORY_PENDING", ""),
        (3, "COMPENSATING", "out_of_stock"),
        (4, "CANCELLED", "out_of_stock"),
    ):
        query(
            dsn,
            "insert into orders.order_history (order_id, saga_version, status, reason, at)"
            " values (%s, %s, %s, %s, now())",
            order_id,
            version,
            status,
            reason,
        )


async def test_a_saga_shows_its_steps_and_history(client: Client, database: str) -> None:
    """Detail and list decode the domain's record; the history is the order's."""
    order_id = (await place(client))["orderId"]
    await problem(await client.get(f"/api/sagas/{order_id}"), 404)
    store_saga(database, order_id)
    saga = await (await client.get(f"/api/sagas/{order_id}")).json()
    assert (saga["state"], saga["final"], saga["version"]) == ("CANCELLED", True, 4)
    assert [(step["name"], step["status"]) for step in saga["steps"]] == [
        ("payment", "COMPENSATED"),
        ("inventory", "FAILED"),
        ("shipping", "WAITING"),
        ("commit", "WAITING"),
    ]
    assert [entry["status"] for entry in saga["history"]][-1] == "CANCELLED"
    listed = await (await client.get("/api/sagas")).json()
    assert [one["orderId"] for one in listed["sagas"]] == [order_id]


async def test_a_saga_of_an_unknown_schema_is_still_shown(client: Client, database: str) -> None:
    """State and version come from the columns; the steps are said to be unreadable."""
    order_id = (await place(client))["orderId"]
    store_saga(database, order_id, body=b"\x91\x63")
    saga = await (await client.get(f"/api/sagas/{order_id}")).json()
    assert (saga["state"], saga["readable"], saga["steps"]) == ("CANCELLED", False, [])
    assert (await client.get(f"/orders/{order_id}")).status == 200


async def test_the_empty_page_says_how_to_begin(client: Client) -> None:
    """Without orders the page explains itself."""
    page = await client.get("/")
    assert page.content_type == "text/html"
    text = await page.text()
    assert "No orders yet" in text
    assert "symphony load" in text


async def test_the_pages_show_orders_and_the_way_of_one(client: Client, database: str) -> None:
    """The list links to the order, whose timeline is an ordered list with times."""
    order_id = (await place(client))["orderId"]
    store_saga(database, order_id)
    listing = await (await client.get("/")).text()
    assert f'href="/orders/{order_id}"' in listing
    assert "cancelled" in listing
    detail = await (await client.get(f"/orders/{order_id}")).text()
    timeline = re.search(r'<ol class="timeline">(.*?)</ol>', detail, re.DOTALL)
    assert timeline is not None
    words = re.findall(r"</svg>([^<]+)</span>", timeline[1])
    assert words == [
        "accepted",
        "waiting for payment",
        "waiting for stock",
        "being undone",
        "cancelled",
    ]
    assert timeline[1].count("<time ") == len(words)
    assert await (await client.get(f"/ops/fragments/orders/{order_id}")).text() in detail


async def test_what_customers_write_is_shown_as_text(client: Client) -> None:
    """Markup in a customer id is escaped on both pages."""
    hostile = '<script>alert(1)</script>"><img src=x>'
    order_id = (await place(client, {"customerId": hostile, "total": 1}))["orderId"]
    for path in ("/", f"/orders/{order_id}"):
        text = await (await client.get(path)).text()
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text


async def test_pages_obey_the_content_security_policy(client: Client) -> None:
    """No inline script, style or handler and nothing from elsewhere; assets never change."""
    order_id = (await place(client))["orderId"]
    for path in ("/", f"/orders/{order_id}"):
        text = await (await client.get(path)).text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text)
        linked = re.findall(r'(?:src|href)="([^"#]+)"', text)
        assert all(address.startswith("/") for address in linked)
        for address in {link for link in linked if link.startswith("/static/")}:
            asset = await client.get(address)
            assert asset.status == 200
            assert "immutable" in asset.headers["Cache-Control"]
    await problem(await client.get("/static/style.000000000000.css"), 404)


async def test_a_browser_gets_errors_as_pages_and_programs_get_problems(client: Client) -> None:
    """The same address answers in the form that was asked for; the status is the same."""
    path = "/orders/00000000-0000-4000-8000-000000000000"
    page = await client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status == 404
    assert page.content_type == "text/html"
    assert "There is no such order." in await page.text()
    await problem(await client.get(path), 404)
    await problem(await client.get(f"/api{path}", headers={"Accept": "text/html"}), 404)


async def test_older_orders_are_one_link_away(client: Client) -> None:
    """Past fifty orders the page links to the next page by key."""
    for _ in range(51):
        await place(client)
    first = await (await client.get("/")).text()
    older = re.search(r'href="(/\?before=[^"]+)"', first)
    assert older is not None
    second = await (await client.get(older[1])).text()
    assert first.count('<th scope="row"') == 50
    assert second.count('<th scope="row"') == 1
