"""Every declared operation under generated requests: never a 500, never an undeclared answer.

The requests are made from the API's own description by schemathesis: valid ones and broken ones,
the same in every run. FUZZ_EXAMPLES=300 makes a deep run of it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

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

from app.db.engine import Database
from app.db.migrate import seed
from app.settings import load_settings
from chaos.lab.postgres import Postgres
from chaos.lab.process import free_port
from web.application import build, declared_routes
from web.context import Context
from web.openapi import document, operation_id

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
ROUTES = declared_routes()
SCHEMA = schemathesis.openapi.from_dict(document(ROUTES))
OPERATIONS = {
    found.ok().definition.raw["operationId"]: found.ok() for found in SCHEMA.get_all_operations()
}
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
AWAY = {"canary_unknown"}
"""Codes of a 503 that this server may give: it has PostgreSQL, and no Kafka."""


@pytest.fixture(scope="module")
def server(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """The API in a thread of its own, over a database with a few orders; yields its address."""
    name = "test_fuzz"
    _execute(postgres, f"create database {name} template {migrated_template}")
    dsn = postgres.dsn_of(name)
    seed(dsn)
    running = Server(dsn)
    running.start()
    url = f"http://127.0.0.1:{running.port}"
    for number, total in enumerate(("12.50", "1234.56", "2345.67")):
        body = {"customerId": f"customer-{number}", "total": total}
        requests.post(f"{url}/api/orders", json=body, timeout=30).raise_for_status()
    yield url
    running.stop()
    _execute(postgres, f"drop database if exists {name} with (force)")


@pytest.fixture(scope="module")
def order_ids(server: str) -> list[str]:
    """Orders that exist: one accepted, two under review."""
    answer = requests.get(f"{server}/api/orders", timeout=30).json()
    return [one["orderId"] for one in answer["orders"]]


def requests_to_make() -> Iterator[Any]:
    """Every operation with valid requests; with broken ones where something can be broken."""
    for route in ROUTES:
        name = operation_id(route)
        yield pytest.param(name, GenerationMode.POSITIVE, id=name)
        if route.params or route.body is not None:
            yield pytest.param(name, GenerationMode.NEGATIVE, id=f"{name}-broken")


@pytest.mark.parametrize(("name", "mode"), list(requests_to_make()))
def test_every_operation_answers_as_declared(
    name: str, mode: GenerationMode, server: str, order_ids: list[str]
) -> None:
    """Status, headers, content type and body of each answer are those of the description."""
    operation = OPERATIONS[name]
    turn = 0

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        nonlocal turn
        turn += 1
        if mode is GenerationMode.POSITIVE and "order_id" in (case.path_parameters or {}):
            case.path_parameters["order_id"] = order_ids[turn % len(order_ids)]
        answer = case.call(base_url=server, timeout=30)
        told = (
            f"{case.method} {case.formatted_path} {case.query} {case.body!r}: {answer.text[:300]}"
        )
        assert answer.status_code < 500 or answer.status_code == 503, told
        if answer.status_code == 503:
            assert answer.json()["code"] in AWAY, told
        case.validate_response(answer, checks=CHECKS)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "no request can be made of the description"
        pytest.skip("nothing of this request can be wrong")


class Server(threading.Thread):
    """The API on an event loop of its own, so that tests may block."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="fuzzed-api", daemon=True)
        self._dsn = dsn
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
        values = {"role": "web", "postgres_dsn": self._dsn, "api_request_timeout_s": 60}
        settings = load_settings(**values)
        db = await Database.open(settings, application_name="web-fuzz")
        runner = web.AppRunner(build(Context(settings, db)))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()
        await db.close()


def _execute(postgres: Postgres, statement: str) -> None:
    with closing(psycopg2.connect(postgres.dsn_of("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
