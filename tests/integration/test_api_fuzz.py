"""Every declared operation under generated requests: never a 500, never an undeclared answer.

The server is a lab's, with the product's operations and the laboratory's, over real servers and a
canary's workers. Chaos rules are in force there and break nothing (`INERT`); no GameDay begins, as
there is no lab to execute it. The requests are made from the API's own description by
schemathesis: valid ones and broken ones, the same in every run. FUZZ_EXAMPLES=300 makes a deep run.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from typing import Any

import msgspec
import psycopg2
import pytest
import requests
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.db import journal
from app.db.engine import Database
from app.db.migrate import seed
from app.settings import Settings, load_settings
from chaos.control import cloudcart, dual_write, payment_mode
from chaos.control import web as chaos_web
from chaos.control.agent import Agent
from chaos.control.web import RULE_ROUTES
from chaos.faults.kinds import KINDS
from chaos.gameday import web as gameday
from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
from chaos.lab.process import free_port
from chaos.openapi import LAB_ROUTES
from tests.integration.canary_kit import Worker, control_topics
from tests.integration.chaos_kit import FakeApp, make_topics
from tests.integration.gateway_process import GatewayProcess
from tests.waiting import eventually
from web.application import build, declared_routes
from web.canary import CanaryControl
from web.context import Context
from web.openapi import encoded, operation_id
from web.routes import Param, Route

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
ROUTES = [*declared_routes(), *LAB_ROUTES]
SCHEMA = schemathesis.openapi.from_dict(json.loads(encoded(ROUTES)))
OPERATIONS = {
    found.ok().definition.raw["operationId"]: found.ok() for found in SCHEMA.get_all_operations()
}
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FAILS = {"getChaosTestError", "getApiChaosTestError"}
"""Operations that answer 500 because that is what they are for."""
ANY_TEXT = {"type": "string"}
ALIASES = re.compile("(get|put|post)Chaos")
"""Operations that have the same handler as those below /api/chaos."""


class Inert:
    """A fault that is in force and does nothing: what is fuzzed is this very process."""

    def __init__(self, *_: Any) -> None:
        return

    def start(self) -> None:
        return

    def stop(self) -> None:
        return


INERT = {name: dataclasses.replace(kind, build=Inert) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def server(
    postgres: Postgres,
    migrated_template: str,
    broker: Broker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The API in a thread of its own, over a database with a few orders; yields its address."""
    name = "test_fuzz"
    directory = tmp_path_factory.mktemp("fuzz")
    with ExitStack() as stack:
        _execute(postgres, f"create database {name} template {migrated_template}")
        stack.callback(_execute, postgres, f"drop database if exists {name} with (force)")
        dsn = postgres.dsn_of(name)
        seed(dsn)
        provider = GatewayProcess(directory / "ledger.jsonl").start()
        stack.callback(provider.stop)
        stack.enter_context(control_topics(broker.bootstrap))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(cloudcart, "SLOW_S", (0.0, 0.1))
        patch.setattr(dual_write, "WATCH_S", 0.1)
        running = Server(
            postgres_dsn=dsn,
            broker_bootstrap=broker.bootstrap,
            gateway_url=provider.url,
            lab_dir=directory / "no-lab",
        )
        running.start()
        stack.callback(running.stop)
        url = f"http://127.0.0.1:{running.port}"
        for number, total in enumerate(("12.50", "1234.56", "2345.67")):
            body = {"customerId": f"customer-{number}", "total": total}
            requests.post(f"{url}/api/orders", json=body, timeout=30).raise_for_status()
        yield url


@pytest.fixture(scope="module")
def known(server: str) -> dict[str, list[str]]:
    """What exists, by the name of a path's parameter: one order accepted, two under review; a
    GameDay that waits, unless it was aborted meanwhile; a rule, unless it was deleted.
    """
    orders = requests.get(f"{server}/api/orders", timeout=30).json()["orders"]
    run = requests.post(
        f"{server}/api/gameday/start", json={"experiment": "kill-payment"}, timeout=60
    )
    assert run.status_code in (202, 409), run.text
    runs = requests.get(f"{server}/api/gameday/runs", timeout=30).json()["runs"]
    rule = {"id": "known", "fault": "delay", "scope": {"topic": "payment.result"}, "ttlS": 600}
    requests.post(f"{server}/api/chaos/rules", json=rule, timeout=60)
    return {
        "order_id": [one["orderId"] for one in orders],
        "run_id": [one["id"] for one in runs],
        "rule": ["known", "payment.result"],
    }


def requests_to_make() -> Iterator[Any]:
    """Every operation with valid requests; with broken ones where something can be broken."""
    for route in ROUTES:
        name = operation_id(route)
        yield pytest.param(name, GenerationMode.POSITIVE, id=name)
        if route.body is not None or not all(map(_takes_any_text, route.params)):
            yield pytest.param(name, GenerationMode.NEGATIVE, id=f"{name}-broken")


def _takes_any_text(param: Param) -> bool:
    """Whether no text is wrong for a parameter: looking for one takes long and finds none."""
    schema = msgspec.json.schema(param.type)
    return {name: value for name, value in schema.items() if name != "examples"} == ANY_TEXT


@pytest.mark.parametrize(("name", "mode"), list(requests_to_make()))
def test_every_operation_answers_as_declared(
    name: str, mode: GenerationMode, server: str, known: dict[str, list[str]]
) -> None:
    """Status, headers, content type and body of each answer are those of the description."""
    operation = OPERATIONS[name]
    turn = 0

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=1 if ALIASES.match(name) else EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        nonlocal turn
        turn += 1
        for param in (case.path_parameters or {}).keys() & known.keys():
            if mode is GenerationMode.POSITIVE:
                case.path_parameters[param] = known[param][turn % len(known[param])]
        answer = case.call(base_url=server, timeout=60)
        told = (
            f"{case.method} {case.formatted_path} {case.query} {case.body!r}: {answer.text[:300]}"
        )
        assert answer.status_code < 500 or name in FAILS, told
        case.validate_response(answer, checks=CHECKS)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "no request can be made of the description"
        pytest.skip("nothing of this request can be wrong")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        pytest.param(route, body, id=f"{operation_id(route)}-{name}")
        for route in RULE_ROUTES
        for name, body in route.examples
    ],
)
def test_every_example_of_a_chaos_rule_is_taken(route: Route, body: Any, server: str) -> None:
    """What people copy works as it stands there; a generated rule names no fault that exists."""
    path = route.path.format_map({"rule": "payment.result"})
    requests.delete(f"{server}/api/chaos/rules", timeout=60).raise_for_status()
    sent = msgspec.to_builtins(body)
    answer = requests.request(route.method, f"{server}{path}", json=sent, timeout=60)
    assert answer.status_code in (200, 201), answer.text
    assert answer.json()["enabled"]
    OPERATIONS[operation_id(route)].validate_response(answer)


class Server(threading.Thread):
    """The API on an event loop of its own, so that tests may block."""

    def __init__(self, **values: Any) -> None:
        super().__init__(name="fuzzed-api", daemon=True)
        self._values = values
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.port = free_port()

    def start(self) -> None:
        super().start()
        assert self._ready.wait(120), "the API did not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(60)

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        settings = self._settings("web", "web-1")
        async with AsyncExitStack() as stack:
            db = await Database.open(settings, application_name="web-fuzz")
            stack.push_async_callback(db.close)
            extensions = await self._chaos(stack, settings, db)
            context: Context
            canary = CanaryControl(lambda: context)
            context = Context(settings, db, canary=canary)
            await canary.start()
            stack.push_async_callback(canary.stop)
            await self._workers(stack)
            runner = web.AppRunner(build(context, extensions))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", self.port).start()

            async def heard() -> bool:
                return canary.known and bool(canary.live("payment-canary"))

            await eventually(heard, timeout_s=60, what="the canary's control and its worker")
            self._ready.set()
            await self._over.wait()

    async def _chaos(self, stack: AsyncExitStack, settings: Settings, db: Database) -> list[Any]:
        """Follow chaos rules as a lab's workers do; returns what a lab adds to the API."""
        topics = await make_topics(settings.broker_bootstrap)
        app: Any = None
        for role in ("orchestrator", "web"):
            app = FakeApp(self._settings(role, f"{role}-1"), role)
            async with db.transaction() as tx:
                await journal.start_run(tx, role, f"{role}-1", f"{role}-1.fuzz")
            agent = Agent(app, INERT, topics)
            await agent.on_start()
            stack.push_async_callback(agent.on_stop)
            await asyncio.wait_for(agent.board.caught_up.wait(), 60)
        chaos_web.install(app, agent)
        return [*app.web_extensions, payment_mode.extend, gameday.extend]

    async def _workers(self, stack: AsyncExitStack) -> None:
        """Somebody to acknowledge the canary's share, and somebody to take it."""
        for role in ("orchestrator", "payment-canary"):
            worker = Worker(self._settings(role, f"{role}-1"))
            await worker.start()
            stack.push_async_callback(worker.board.stop)

    def _settings(self, role: str, worker_id: str) -> Settings:
        """Generous deadlines: nothing that waits for a slow machine is a fault of the API."""
        return load_settings(
            role=role,
            worker_id=worker_id,
            lab=True,
            api_request_timeout_s=60,
            control_timeout_s=20,
            control_ack_wait_s=20,
            worker_seen_interval_s=600,
            **self._values,
        )


def _execute(postgres: Postgres, statement: str) -> None:
    with closing(psycopg2.connect(postgres.dsn_of("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
