"""The canary on real servers: both arms over one order, the figures, the control and its judge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import typer
from aiohttp.test_utils import TestClient, TestServer
from typer.testing import CliRunner, Result

from agents.payment_canary import CanaryPayments
from app.control.canary import KEY, CanaryConfig, Split, encode
from app.db import canary
from app.db.engine import Database
from app.delivery import Applied, Call, Event, Reply
from app.domain.canary import ArmFigures, goes_to_canary
from app.gateway.client import GatewayClient
from app.messages import PaymentRequested
from app.participants.payment import Payments
from app.settings import load_settings
from chaos.console.canary import register
from chaos.lab.broker import Broker
from tests.integration import canary_kit
from tests.integration.api_client import Client, problem, query
from tests.integration.canary_kit import Worker
from tests.integration.gateway_process import GatewayProcess
from tests.integration.participants import (
    SOON,
    begin,
    call,
    complete,
    event,
    opened,
    order,
    result,
    rows,
)
from web.application import build
from web.canary import CanaryControl
from web.context import Context

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

root = typer.Typer()
register(root)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("gateway") / "ledger.jsonl").start()
    yield process
    process.stop()


# -- one order, both arms ------------------------------------------------------------------------


class Arms:
    """The two handlers over one database and one gateway, without Kafka."""

    def __init__(self, db: Database, gateway: GatewayProcess) -> None:
        settings = load_settings(gateway_url=gateway.url)
        self.client = GatewayClient.from_settings(settings)
        self.split = Split()
        app: Any = SimpleNamespace(settings=settings)
        read: Any = SimpleNamespace(caught_up=asyncio.Event())
        read.caught_up.set()
        self.db = db
        self.stable = Payments("test/payment", self.client)
        self.canary = CanaryPayments(app, self.client, self.split, read)

    def share(self, percent: float) -> None:
        config = CanaryConfig(percent=percent, auto=False, by="t", since=datetime.now(UTC))
        assert self.split.apply(KEY, encode(config), 1) == ""

    async def charge(self, handler: Payments, command: Event) -> Any:
        started = (await begin(self.db, handler, command))[0]
        if isinstance(started, Applied):
            return started
        assert isinstance(started, Call)
        reply = Reply(command, started.request, await call(handler, started.request))
        return (await complete(self.db, handler, [reply]))[0]


@pytest.fixture
async def arms(database: str, gateway: GatewayProcess) -> AsyncIterator[Arms]:
    async with opened(database) as db:
        made = Arms(db, gateway)
        yield made
        await made.client.close()


def command(order_id: str) -> Event:
    body = PaymentRequested(order_id=order_id, amount_minor=1200, currency="EUR", not_after=SOON)
    record = SimpleNamespace(
        topic="payment.requested.canary", partition=0, offset=0, timestamp=0,
        key=order_id.encode(), value=b"{}", headers=[("ce_id", b"id")],
    )  # fmt: skip
    return event(body, "payment")._replace(record=record)  # type: ignore[arg-type]


def charges(gateway: GatewayProcess, order_id: str) -> int:
    return len(gateway.lines(op="charge", order_id=order_id, outcome="ok"))


async def test_a_command_tried_by_both_arms_is_charged_once(
    arms: Arms, gateway: GatewayProcess, database: str
) -> None:
    """One after the other and interleaved, in either order: one charge, one answer, one attempt."""
    for first, second in ((arms.canary, arms.stable), (arms.stable, arms.canary)):
        one = command(order())
        answers = [await arms.charge(first, one), await arms.charge(second, one)]
        assert [result(answer).outcome for answer in answers] == ["OK", "OK"]
        assert answers[0].outputs[0].value == answers[1].outputs[0].value
        assert charges(gateway, one.body.order_id) == 1

    both = command(order())
    started = [(await begin(arms.db, handler, both))[0] for handler in (arms.canary, arms.stable)]
    for handler, begun in zip((arms.stable, arms.canary), reversed(started), strict=True):
        assert isinstance(begun, Call)
        reply = Reply(both, begun.request, await call(handler, begun.request))
        assert result((await complete(arms.db, handler, [reply]))[0]).outcome == "OK"
    assert charges(gateway, both.body.order_id) == 1
    found = rows(
        database, "select arm, status, count(*) from payments.payment_attempt group by 1, 2"
    )
    assert sorted(found) == [("canary", "CHARGED", 2), ("stable", "CHARGED", 1)]


async def test_the_canary_passes_on_what_is_not_its_own(
    arms: Arms, gateway: GatewayProcess, database: str
) -> None:
    """After a rollback nothing is begun by the canary; at 50 % only what is the canary's."""
    arms.share(0)
    one = command(order())
    passed = (await begin(arms.db, arms.canary, one))[0]
    assert isinstance(passed, Applied)
    assert [(out.topic, out.key) for out in passed.outputs] == [("payment.requested", one.key)]
    assert rows(database, "select count(*) from payments.payment_attempt") == [(0,)]
    assert charges(gateway, one.body.order_id) == 0

    arms.share(50)
    batch = [command(order()) for _ in range(20)]
    begun = await begin(arms.db, arms.canary, *batch)
    ours = [goes_to_canary(one.body.order_id, 50) for one in batch]
    assert [isinstance(one, Call) for one in begun] == ours
    stored = {
        row[0] for row in rows(database, "select order_id::text from payments.payment_attempt")
    }
    assert stored == {one.body.order_id for one, mine in zip(batch, ours, strict=True) if mine}


# -- the figures ---------------------------------------------------------------------------------

MINUTE = timedelta(minutes=1)


def attempt(dsn: str, arm: str, status: str, ms: int, inbox: tuple[int, int] = (0, 0)) -> None:
    """A charge that was asked for, taken up 10 ms later and ended `ms` after it was asked for."""
    order_id, command_id = str(uuid4()), str(uuid4())
    asked = datetime.now(UTC) - timedelta(seconds=20)
    query(
        dsn,
        "insert into orders.order_history (order_id, saga_version, event, status, at)"
        " values (%s, 1, 'x', 'PAYMENT_PENDING', %s)",
        order_id, asked,
    )  # fmt: skip
    query(
        dsn,
        "insert into payments.payment_attempt (order_id, status, version, charge_id, amount_minor,"
        " currency, arm, created_at, updated_at) values (%s, %s, 2, %s, 1, 'EUR', %s, %s, %s)",
        order_id, status, command_id, arm, asked + timedelta(milliseconds=10),
        asked + timedelta(milliseconds=ms),
    )  # fmt: skip
    query(
        dsn,
        "insert into ops.inbox (consumer, event_id, status, attempt, outputs, topic, partition,"
        " \"offset\") values (%s, %s, %s, %s, '', 't', 0, 0)",
        canary.CONSUMER_OF_ARM[arm], command_id, *inbox,
    )  # fmt: skip


async def test_the_figures_of_an_arm(database: str) -> None:
    """Every kind of outcome is counted once, latencies are from the request, windows are kept."""
    for ms in (100, 200, 300):
        attempt(database, "canary", "CHARGED", ms)
    attempt(database, "canary", "CHARGED", 400, (0, 2))  # ended on its third try
    attempt(database, "canary", "DECLINED", 500)
    attempt(database, "canary", "INTENT", 0, (2, 1))  # on a retry tier
    attempt(database, "canary", "INTENT", 0, (3, 3))  # a dead letter
    attempt(database, "canary", "INTENT", 0, (1, 0))  # is being called
    attempt(database, "canary", "CANCELLED", 0)
    attempt(database, "stable", "CHARGED", 50)
    now = datetime.now(UTC)
    async with opened(database) as db:
        found = await canary.figures(db, "canary", now - MINUTE, now + MINUTE, 100)
        other = await canary.figures(db, "stable", now - MINUTE, now + MINUTE, 100)
        before = await canary.figures(db, "canary", now - 2 * MINUTE, now - MINUTE, 100)
        newest = await canary.figures(db, "canary", now - MINUTE, now + MINUTE, 4)
    assert found[:8] == (9, 4, 1, 1, 1, 1, 1, 3)
    assert found.errors == 3
    assert other[:8] == (1, 1, 0, 0, 0, 0, 0, 0)
    assert other.p50_ms == pytest.approx(50, abs=1)
    assert found.p95_ms is not None
    assert found.p95_ms > 19_000, "what waits must count with the time it has waited"
    assert before == ArmFigures()
    assert newest.attempts == 4


# -- the control over Kafka ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def control_topics(broker: Broker) -> Iterator[None]:
    with canary_kit.control_topics(broker.bootstrap):
        yield


class Stage:
    """A web worker's API and its control over real Kafka, beside workers that only listen."""

    def __init__(self, client: Client, bootstrap: str, heartbeat_s: float) -> None:
        self.client = client
        self._bootstrap = bootstrap
        self._heartbeat_s = heartbeat_s
        self.workers: list[Worker] = []

    async def worker(self, role: str, name: str) -> Worker:
        settings = load_settings(
            role=role,
            worker_id=name,
            broker_bootstrap=self._bootstrap,
            control_heartbeat_s=self._heartbeat_s,
        )
        made = Worker(settings)
        await made.start()
        self.workers.append(made)
        return made

    async def close(self) -> None:
        for one in self.workers:
            await one.board.stop()

    async def config(self) -> dict[str, Any]:
        answer = await self.client.get("/api/canary/config")
        found: dict[str, Any] = await answer.json()
        return found

    async def symphony(self, *arguments: str) -> Result:
        command = ["canary", *arguments, "--url", str(self.client.make_url(""))]
        return await asyncio.to_thread(lambda: CliRunner().invoke(root, command))


@asynccontextmanager
async def staged(
    dsn: str, bootstrap: str, heartbeat_s: float = 0.5, **changes: Any
) -> AsyncIterator[Stage]:
    settings = load_settings(
        role="web", postgres_dsn=dsn, broker_bootstrap=bootstrap, control_heartbeat_s=heartbeat_s,
        canary_interval_s=0.3, canary_window_s=1, canary_samples_min=5, **changes,
    )  # fmt: skip
    db = await Database.open(settings, application_name="web-test")
    control: CanaryControl

    def context() -> Context:
        return Context(settings, db, canary=control)

    control = CanaryControl(context)
    await control.start()
    client: Client = TestClient(TestServer(build(context())))
    stage = Stage(client, bootstrap, heartbeat_s)
    try:
        async with client:
            yield stage
    finally:
        await stage.close()
        await control.stop()
        await db.close()


async def until(condition: Any, what: str, timeout_s: float = 40) -> None:
    """Wait until the awaited condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)
    assert what


@pytest.mark.usefixtures("control_topics")
async def test_a_change_is_in_force_when_every_orchestrator_says_so(
    database: str, broker: Broker
) -> None:
    """409 without a canary worker; enabled after both acknowledged; pending names who lacks."""
    async with staged(database, broker.bootstrap) as stage:

        async def known() -> bool:
            return (await stage.client.get("/api/canary/config")).status == 200

        await until(known, "the configuration is read")
        first = await stage.worker("orchestrator", "orchestrator-1")
        second = await stage.worker("orchestrator", "orchestrator-2")

        async def heard() -> bool:
            return len((await stage.config())["acked"]) == 2

        await until(heard, "both orchestrators are heard")
        refused = await stage.client.put("/api/canary/config", json={"percent": 5})
        assert "symphony scale payment-canary 1" in (await problem(refused, 409))["detail"]
        assert (first.split.percent, query(database, "select 1 from ops.audit_log")) == (0, [])
        for body in (
            {}, {"percent": 101}, {"percent": -1}, {"percentage": 2}, {"percent": "5"},
            {"percent": 5, "percentage": 0.05}, {"percent": 5, "else": 1},
        ):  # fmt: skip
            await problem(await stage.client.put("/api/canary/config", json=body), 422)

        await stage.worker("payment-canary", "payment-canary-1")

        async def alive() -> bool:
            return bool((await stage.config())["canaryWorkers"])

        await until(alive, "the canary worker is heard")
        answer = await stage.client.post(
            "/api/canary/config",
            json={"percentage": 0.05, "auto": False, "reason": "try it"},
            headers={"X-Operator": "ada"},
        )
        said = await answer.json()
        assert (said["percent"], said["enabled"], said["inForce"]) == (5, True, True)
        assert said["acked"] == ["orchestrator-1", "orchestrator-2"]
        assert (first.split.percent, second.split.percent) == (5, 5)
        acts = query(database, "select actor, action, reason from ops.audit_log")
        assert acts == [("ada", "canary.change", "try it")]

        await second.board.stop()
        half = await stage.symphony("set", "7", "--no-auto", "--operator", "bob")
        assert half.exit_code == 3, "not every orchestrator has it in force"
        assert "7 % of the orders go to the canary, set by bob" in half.output
        assert "waiting for orchestrator-2" in half.output

        async def forgotten() -> bool:
            return bool((await stage.config())["enabled"])

        await until(forgotten, "a worker that is gone is not waited for")
        shown = await stage.symphony("show")
        assert "in force at: orchestrator-1\n" in shown.output
        ended = await stage.symphony("off", "--reason", "enough", "--json")
        assert ended.exit_code == 0, ended.output
        assert json.loads(ended.output)["percent"] == 0
        assert first.split.percent == 0


def charges_of(dsn: str, arm: str, count: int, *, failed: int = 0) -> None:
    """Charges taken up now, some of which failed."""
    for number in range(count):
        order_id, command_id = str(uuid4()), str(uuid4())
        query(
            dsn,
            "insert into payments.payment_attempt (order_id, status, version, charge_id,"
            " amount_minor, currency, arm) values (%s, 'CHARGED', 2, %s, 1, 'EUR', %s)",
            order_id, command_id, arm,
        )  # fmt: skip
        query(
            dsn,
            "insert into ops.inbox (consumer, event_id, status, attempt, outputs, topic, partition,"
            " \"offset\") values (%s, %s, 0, %s, '', 't', 0, 0)",
            canary.CONSUMER_OF_ARM[arm], command_id, int(number < failed),
        )  # fmt: skip


@pytest.mark.usefixtures("control_topics")
@pytest.mark.parametrize(
    ("failed", "promotion", "action", "percent"),
    [(8, "keep", "canary.roll_back", 0), (0, "full", "canary.promote", 100)],
)
async def test_the_judge_acts_on_the_figures(
    database: str, broker: Broker, failed: int, promotion: str, action: str, percent: float
) -> None:
    """Two bad windows roll back, two good ones promote; the numbers are on record, and once."""
    async with staged(
        database, broker.bootstrap,
        heartbeat_s=5,  # a slow machine must not look like workers that are gone
        canary_rollback_windows=2, canary_promote_windows=2, canary_promotion=promotion,
    ) as stage:  # fmt: skip
        orchestrator = await stage.worker("orchestrator", "orchestrator-1")
        await stage.worker("payment-canary", "payment-canary-1")

        async def ready() -> bool:
            answer = await stage.client.put(
                "/api/canary/config", json={"percent": 30, "auto": True}
            )
            return answer.status == 200 and bool((await answer.json())["enabled"])

        await until(ready, "the canary is enabled")

        async def decided() -> bool:
            charges_of(database, "stable", 10)
            charges_of(database, "canary", 10, failed=failed)
            return orchestrator.split.percent == percent

        await until(decided, action)
        compared = await stage.symphony("compare", "--window", "PT5M", "--json")
        found = json.loads(compared.output)
        assert found["verdict"] == ("breached" if failed else "healthy")
        shown = await stage.symphony("compare")
        assert "canary" in shown.output
        config = await stage.config()
        assert (config["by"], config["promoted"]) == ("auto-canary", not failed)
        acts = query(
            database, "select action, detail from ops.audit_log where actor = 'auto-canary'"
        )
        assert [act for act, _ in acts] == [action]
        assert len(acts[0][1]["windows"]) == 2
        assert acts[0][1]["windows"][0]["canary"]["attempts"] >= 5
        await problem(await stage.client.get("/api/canary/comparison?window=5x"), 400)
        await problem(await stage.client.get("/api/canary/comparison?window=25h"), 400)
