"""`symphony order` and `symphony saga` against the API on real PostgreSQL."""

from __future__ import annotations

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner, Result

from app.errors import SymphonyError
from chaos.console.command import register
from tests.integration.api_client import api, move_saga, query
from tests.integration.test_api_operations import ORDER_ID, PARKED_CHARGE, creation, store

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

root = typer.Typer()
register(root)


async def symphony(*arguments: str) -> Result:
    """Run a command in a thread, as the API lives in this loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(root, list(arguments)))


async def test_an_order_is_placed_shown_listed_and_cancelled(database: str) -> None:
    """The four commands agree on one order, in words and as JSON."""
    async with api(database) as client:
        url = str(client.make_url(""))
        created = await symphony("order", "create", "--total", "12.50", "--url", url, "--json")
        order_id = json.loads(created.output)["orderId"]
        assert query(database, "select order_id::text from orders.orders") == [(order_id,)]
        shown = await symphony("order", "show", order_id, "--url", url)
        assert f"order {order_id} of console: PENDING" in shown.output
        listed = await symphony("order", "ls", "--url", url, "--json")
        assert [one["orderId"] for one in json.loads(listed.output)] == [order_id]
        cancelled = await symphony("order", "cancel", order_id, "--url", url)
        assert cancelled.exit_code == 0
        assert "cancellation requested" in cancelled.output


async def test_orders_of_one_status_are_listed(database: str) -> None:
    """--status keeps the orders of that status and says so when there is none."""
    async with api(database) as client:
        url = str(client.make_url(""))
        ids = []
        for _ in range(2):
            created = await symphony("order", "create", "--total", "2.00", "--url", url, "--json")
            ids.append(json.loads(created.output)["orderId"])
        move_saga(database, ids[0], "PARKED")
        parked = await symphony("order", "ls", "--status", "PARKED", "--url", url, "--json")
        assert [one["orderId"] for one in json.loads(parked.output)] == [ids[0]]
        none = await symphony("order", "ls", "--status", "COMPLETED", "--url", url)
        assert none.exit_code == 0
        assert "no order is COMPLETED" in none.output


async def test_one_key_given_twice_makes_one_order(database: str) -> None:
    """--key makes a repeat harmless, and the same order is answered."""
    async with api(database) as client:
        arguments = ("order", "create", "--total", "3.10", "--key", "my-key-1", "--json")
        url = str(client.make_url(""))
        first = json.loads((await symphony(*arguments, "--url", url)).output)
        second = json.loads((await symphony(*arguments, "--url", url)).output)
        assert first == second
        assert query(database, "select count(*) from orders.orders") == [(1,)]


async def test_a_saga_that_does_not_end_in_time_is_exit_code_1(database: str) -> None:
    """Watching ends at its deadline and says where the saga stands."""
    async with api(database) as client:
        url = str(client.make_url(""))
        created = await symphony("order", "create", "--total", "1.00", "--url", url, "--json")
        order_id = json.loads(created.output)["orderId"]
        watched = await symphony("saga", "watch", order_id, "--timeout", "0.1", "--url", url)
        assert watched.exit_code == 1
        assert "not begun" in watched.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["order", "create"], "give either total"),
        (["order", "create", "--item", "NOTHING"], "there is no product NOTHING"),
        (["order", "create", "--item", "=3"], "SKU or SKU=QUANTITY"),
        (["order", "show", "no-uuid"], "There is no such order"),
        (["order", "ls", "--status", "LOST"], "status must be one of PENDING"),
        (["saga", "watch", "01a1fec8-073e-72a8-850f-0209f5ec20aa"], "There is no such order"),
    ],
)
async def test_a_mistake_is_answered_with_one_sentence(
    database: str, arguments: list[str], message: str
) -> None:
    """The API's reason reaches the person, without a traceback of ours."""
    async with api(database) as client:
        url = str(client.make_url(""))
        failed = await symphony(*arguments, "--url", url)
        assert failed.exit_code != 0
        assert isinstance(failed.exception, SymphonyError)
        assert message in failed.exception.detail


async def test_an_api_that_is_away_is_named() -> None:
    """Without an answer the address and the cause are told."""
    failed = await symphony("order", "ls", "--url", "http://127.0.0.1:1")
    assert isinstance(failed.exception, SymphonyError)
    assert "http://127.0.0.1:1 does not answer" in failed.exception.detail


async def test_an_operator_acts_from_the_console(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is listed with what can be done; an action says what to look at next."""
    monkeypatch.setenv("SYMPHONY_OPERATOR", "ada")
    saga = store(database, creation(), PARKED_CHARGE)
    async with api(database) as client:
        url = ("--url", str(client.make_url("")))
        parked = await symphony("saga", "parked", *url)
        assert ORDER_ID in parked.output
        assert "retry, compensate, resume" in parked.output
        asked = await symphony("saga", "retry", ORDER_ID, "--reason", "it is back", *url)
        assert f"retry requested at version {saga.version}" in asked.output
        rows = query(database, "select actor, action, reason from ops.audit_log")
        assert rows == [("ada", "saga.retry", "it is back")]
        refused = await symphony("saga", "skip", ORDER_ID, "--reason", "x", *url)
        assert isinstance(refused.exception, SymphonyError)
        assert "retry it, or compensate" in str(refused.exception)
        stale = await symphony("saga", "resume", ORDER_ID, "--version", "1", *url)
        assert "stale_version" in str(stale.exception)
        waited = await symphony("saga", "retry", ORDER_ID, "--wait", "0.1", *url)
        assert "not decided within 0.1 s" in str(waited.exception)
        missing = await symphony("saga", "skip", ORDER_ID, *url)
        assert missing.exit_code == 2
