"""Payment status and the provider's mode through the API, on real PostgreSQL and the simulator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from typer.testing import CliRunner, Result

from app import ids
from app.messages.envelope import ATTEMPT_MAX
from chaos.console.payments import register
from chaos.control import payment_mode
from tests.integration.api_client import Client, api, place, problem, query
from tests.integration.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

root = typer.Typer()
register(root)
ACTS = "select actor, action, target, detail from ops.audit_log order by id"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("gateway") / "ledger.jsonl").start()
    yield process
    process.stop()


def lab_api(database: str, gateway_url: str) -> Any:
    """The API as a lab serves it."""
    return api(database, extensions=[payment_mode.extend], gateway_url=gateway_url)


async def symphony(client: Client, *arguments: str) -> Result:
    """Run a command in a thread, as the API lives in this loop."""
    command = [*arguments, "--url", str(client.make_url(""))]
    return await asyncio.to_thread(lambda: CliRunner().invoke(root, command))


async def test_the_mode_is_the_provider_s_own_and_every_change_is_recorded(
    database: str, gateway: GatewayProcess
) -> None:
    """PUT changes the process itself and leaves its other settings; who did it is on record."""
    gateway.behave(mode="SUCCESS", decline_rate=0.25)
    async with lab_api(database, gateway.url) as client:
        assert await (await client.get("/api/payments/mode")).json() == {"mode": "SUCCESS"}
        for mode in ("ERROR", "DECLINE", "TIMEOUT", "SUCCESS"):
            answer = await client.put(
                "/api/payments/mode", json={"mode": mode}, headers={"X-Operator": "ada"}
            )
            assert (answer.status, await answer.json()) == (200, {"mode": mode})
            said = await asyncio.to_thread(gateway.behave)
            assert (said["mode"], said["decline_rate"]) == (mode, 0.25)
    acts = query(database, ACTS)
    assert acts[0] == (
        "ada", "payment_mode.change", "payment_provider", {"from": "SUCCESS", "to": "ERROR"},
    )  # fmt: skip
    assert len(acts) == 4


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"mode": "success"}, 422),
        ({"mode": "BROKEN"}, 422),
        ({"mode": 1}, 422),
        ({}, 422),
        ({"mode": "ERROR", "decline_rate": 1}, 422),
        ([], 422),
    ],
)
async def test_another_mode_changes_nothing(
    database: str, gateway: GatewayProcess, body: Any, status: int
) -> None:
    """A body that names no mode is refused before the provider or the log hears of it."""
    gateway.behave(mode="SUCCESS")
    async with lab_api(database, gateway.url) as client:
        said = await problem(await client.put("/api/payments/mode", json=body), status)
        assert "SUCCESS, ERROR, DECLINE, TIMEOUT" in said["detail"]
    assert gateway.behave()["mode"] == "SUCCESS"
    assert query(database, ACTS) == []


async def test_a_provider_without_a_mode_is_left_alone(database: str) -> None:
    """A real provider: 501 that says so, whatever it answers to an address it does not know."""
    asked: list[str] = []

    async def refuse(request: web.BaseRequest) -> web.Response:
        asked.append(request.method)
        if len(asked) == 1:
            return web.Response(status=404)
        return web.json_response({"status": "fine"})

    async with api(database) as product:
        await problem(await product.get("/api/payments/mode"), 404)
    server = web.Server(refuse)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with lab_api(database, f"http://{host}:{port}") as client:
            for _ in range(2):
                answer = await client.put("/api/payments/mode", json={"mode": "ERROR"})
                said = await problem(answer, 501)
                assert said["code"] == "provider_has_no_mode"
    finally:
        await runner.cleanup()
    assert asked == ["GET", "GET"], "it was asked to change"
    assert query(database, ACTS) == []


async def test_a_provider_that_is_away_is_503(database: str, tmp_path: Path) -> None:
    """Nobody listens: the mode is unknown, and nothing is recorded."""
    silent = GatewayProcess(tmp_path / "ledger.jsonl")
    async with lab_api(database, silent.url) as client:
        for answer in (
            await client.get("/api/payments/mode"),
            await client.put("/api/payments/mode", json={"mode": "ERROR"}),
        ):
            said = await problem(answer, 503)
            assert said["code"] == "provider_unavailable"
            assert "Retry-After" in answer.headers
    assert query(database, ACTS) == []


async def test_the_commands_show_and_change_the_mode(
    database: str, gateway: GatewayProcess
) -> None:
    """`symphony payments mode` with and without MODE, in words and as JSON."""
    gateway.behave(mode="SUCCESS")
    async with lab_api(database, gateway.url) as client:
        shown = await symphony(client, "payments", "mode")
        assert shown.output == "the payment provider answers in mode SUCCESS\n"
        changed = await symphony(client, "payments", "mode", "decline", "--json")
        assert json.loads(changed.output) == {"mode": "DECLINE"}
        refused = await symphony(client, "payments", "mode", "sometimes")
        assert refused.exit_code == 2
        assert gateway.behave()["mode"] == "DECLINE"


def charged(database: str, order_id: str, status: str, **inbox: tuple[int, int]) -> None:
    """Give an order an attempt in `status`, and its command (status, delivery) by consumer."""
    command = ids.command_id(order_id, "payment", "forward")
    query(
        database,
        "insert into payments.payment_attempt (order_id, status, version, charge_id, amount_minor,"
        " currency, payment_id, arm) values (%s, %s, 2, %s, 1250, 'EUR', 'pay-1', 'canary')",
        order_id, status, command,
    )  # fmt: skip
    for consumer, (state, delivery) in inbox.items():
        query(
            database,
            "insert into ops.inbox (consumer, event_id, status, attempt, outputs, topic, partition,"
            " \"offset\", at) values (%s, %s, %s, %s, '', 'payment.requested', 0, 0,"
            " clock_timestamp())",
            consumer.replace("_", "-"), command, state, delivery,
        )  # fmt: skip


async def test_the_status_of_a_payment(database: str) -> None:
    """Not begun, then parked by the canary after its third try, then charged on a redrive."""
    async with api(database) as client:
        order_id = (await place(client))["orderId"]
        path = f"/api/payments/status/{order_id}"
        begun = await (await client.get(path)).json()
        assert (begun["status"], begun["delivery"], begun["tries"]) == ("NONE", None, 0)
        assert (begun["amount"], begun["amountMinor"], begun["currency"]) == ("12.50", 1250, "EUR")
        told = await symphony(client, "payments", "status", order_id)
        assert told.output.endswith("12.50 EUR, not begun\n")

        charged(database, order_id, "INTENT", payment_canary=(3, 2))
        parked = await (await client.get(path)).json()
        assert (parked["status"], parked["delivery"], parked["arm"]) == (
            "INTENT", "PARKED", "canary",
        )  # fmt: skip
        assert (parked["tries"], parked["redrives"]) == (3, 0)
        told = await symphony(client, "payments", "status", order_id)
        assert told.output.endswith("INTENT, PARKED, try 3 of arm canary\n")

        query(database, "delete from payments.payment_attempt")
        charged(database, order_id, "CHARGED", payment=(0, ATTEMPT_MAX + 1))
        done = await (await client.get(path)).json()
        assert (done["status"], done["delivery"], done["paymentId"]) == ("CHARGED", "DONE", "pay-1")
        assert (done["tries"], done["redrives"]) == (1, 1)


async def test_there_is_no_payment_of_an_unknown_order(database: str) -> None:
    """404 for an order that does not exist and for a text that is no order's id."""
    async with api(database) as client:
        for order_id in ("6d1f9f0e-0000-4000-8000-000000000000", "nonsense"):
            await problem(await client.get(f"/api/payments/status/{order_id}"), 404)
