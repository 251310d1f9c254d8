"""An operator at the API: what waits, what can be done, and what is recorded of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from app.domain.definition import DEFINITIONS, FORWARD
from app.domain.exploration import ORDER_ID, SMALL, START, answer, creation
from app.domain.saga import Applied, Saga, decide, to_bytes
from tests.integration.api_client import Client, api, count, move_saga, place, problem, query

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

UNKNOWN = "00000000-0000-4000-8000-000000000000"
PARKED_CHARGE = answer(DEFINITIONS["order.v1"].steps[0], FORWARD, "PARKED", state_version=0)


def store(dsn: str, *events: Any) -> Saga:
    """Store the sample order with the saga, and the history, that `events` give it."""
    query(
        dsn,
        "insert into orders.orders (order_id, customer_id, total_minor, currency, created_at)"
        " values (%s, 'c', 1000, 'EUR', %s)",
        ORDER_ID,
        START,
    )
    saga: Saga | None = None
    for number, event in enumerate(events):
        decision = decide(saga, event, START, policy=SMALL)
        assert isinstance(decision, Applied)
        saga = decision.saga
        for line in decision.transitions:
            query(
                dsn,
                "insert into orders.order_history (order_id, saga_version, event, status, reason,"
                " at) values (%s, %s, %s, %s, %s, %s)",
                ORDER_ID, saga.version, line.event, str(line.target), line.reason,
                START + timedelta(seconds=number),
            )  # fmt: skip
    assert saga is not None
    query(
        dsn,
        "insert into orders.saga (order_id, partition, version, state, reason, terminal, body,"
        " created_at, updated_at) values (%s, 0, %s, %s, %s, %s, %s, now(), now())",
        ORDER_ID, saga.version, str(saga.state), saga.reason, saga.settled, to_bytes(saga),
    )  # fmt: skip
    return saga


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    """The API over an empty database."""
    async with api(database) as running:
        yield running


async def act(client: Client, order_id: str = ORDER_ID, **body: Any) -> Any:
    """Ask for an action as ada."""
    return await client.post(
        f"/api/sagas/{order_id}/actions", json=body, headers={"X-Operator": "ada"}
    )


async def test_what_waits_for_a_person_is_listed_with_what_can_be_done(
    client: Client, database: str
) -> None:
    """Which step, why, since when, and the actions that would be accepted."""
    store(database, creation(), PARKED_CHARGE)
    other = (await place(client))["orderId"]
    move_saga(database, other, "PAYMENT_PENDING")
    [found] = (await (await client.get("/api/sagas?parked=true")).json())["sagas"]
    assert (found["orderId"], found["state"], found["outstanding"]) == (
        ORDER_ID, "PARKED", "charge",
    )  # fmt: skip
    assert found["why"] == "payment_dead_lettered"
    assert found["since"] == (START + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    assert found["actions"] == ["retry", "compensate", "resume"]
    for query_string, expected in {
        "state=PAYMENT_PENDING": [other],
        "state=COMPLETED": [],
        "reason=customer": [],
        "olderThan=3600": [ORDER_ID],
        "parked=false&limit=200": [other, ORDER_ID],
    }.items():
        page = await (await client.get(f"/api/sagas?{query_string}")).json()
        assert [one["orderId"] for one in page["sagas"]] == expected, query_string


async def test_an_action_leaves_with_its_record_in_one_transaction(
    client: Client, database: str
) -> None:
    """202: the event waits in the outbox, and the audit log names who, what and why."""
    saga = store(database, creation(), PARKED_CHARGE)
    answered = await act(client, action="retry", expectedVersion=saga.version, reason="it is back")
    assert answered.status == 202
    reply = await answered.json()
    assert (reply["state"], reply["version"]) == ("PARKED", saga.version)
    [(topic, ce_id, payload)] = query(database, "select topic, ce_id, payload from ops.outbox")
    assert (topic, ce_id) == ("order.operate", reply["eventId"])
    assert json.loads(bytes(payload)) == {
        "order_id": ORDER_ID, "action": "retry", "expected_version": saga.version,
        "operator": "ada", "reason": "it is back",
    }  # fmt: skip
    [row] = query(database, "select actor, action, target, reason, detail from ops.audit_log")
    assert row[:4] == ("ada", "saga.retry", ORDER_ID, "it is back")
    assert row[4] == {"event_id": reply["eventId"], "expected_version": saga.version}


REFUSED: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    (UNKNOWN, {"action": "retry", "expectedVersion": 2}, 404, "not_found"),
    ("nonsense", {"action": "retry", "expectedVersion": 2}, 404, "not_found"),
    (ORDER_ID, {"action": "retry", "expectedVersion": 1}, 409, "stale_version"),
    (ORDER_ID, {"action": "skip", "expectedVersion": 2, "reason": "x"}, 409, "forward_step"),
    (ORDER_ID, {"action": "skip", "expectedVersion": 2}, 422, "invalid_request"),
    (ORDER_ID, {"action": "destroy", "expectedVersion": 2}, 422, "invalid_request"),
    (ORDER_ID, {"action": "retry"}, 422, "invalid_request"),
    (ORDER_ID, {"action": "retry", "expectedVersion": 0}, 422, "invalid_request"),
)


async def test_a_refused_action_leaves_nothing(client: Client, database: str) -> None:
    """Unknown, stale, illegal and malformed: each its own status, and no row anywhere."""
    store(database, creation(), PARKED_CHARGE)
    for order_id, body, status, code in REFUSED:
        refused = await problem(await act(client, order_id, **body), status)
        assert refused["code"] == code, body
    assert count(database, "ops.outbox") == count(database, "ops.audit_log") == 0


async def test_a_filter_that_is_not_understood_is_a_400(client: Client) -> None:
    """A misspelt filter must not look like an empty answer."""
    for parameters in (
        *("state=parked", "parked=yes", "parked=true&state=COMPLETED", "reason=bored"),
        *("olderThan=-1", "olderThan=x", "olderThan=nan", "limit=0"),
    ):
        await problem(await client.get(f"/api/sagas?{parameters}"), 400)


async def test_orders_are_filtered_by_customer_and_time(client: Client) -> None:
    """Each filter alone, together, and page by page."""
    first = await place(client, {"customerId": "bob", "total": 1, "currency": "EUR"})
    others = [(await place(client))["orderId"] for _ in range(3)]
    since, until = first["createdAt"], "2999-01-01T00:00:00Z"
    for parameters, expected in {
        "customerId=bob": [first["orderId"]],
        "customerId=nobody": [],
        f"customerId=ada&status=PENDING&from={since}&to={until}": others[::-1],
        f"to={since}": [],
        f"from={until}": [],
    }.items():
        page = await (await client.get("/api/orders", params=parameters)).json()
        assert [one["orderId"] for one in page["orders"]] == expected, parameters
    page = await (await client.get("/api/orders?customerId=ada&limit=2")).json()
    rest = await (
        await client.get(f"/api/orders?customerId=ada&limit=2&before={page['next']}")
    ).json()
    assert [one["orderId"] for one in page["orders"] + rest["orders"]] == others[::-1]
    for parameters in ("from=yesterday", "to=2026-01-01T00:00:00", "customerId=", "customerId=%00"):
        await problem(await client.get(f"/api/orders?{parameters}"), 400)
