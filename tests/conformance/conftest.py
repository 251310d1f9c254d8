"""The stage of the conformance suite: one subject after the other, with its workers running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from app.db.migrate import seed
from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
from tests.conformance.stage import Stage
from tests.conformance.subjects import SUBJECTS, query
from tests.integration.gateway_process import GatewayProcess


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """The payment gateway, for the one subject that calls it."""
    process = GatewayProcess(tmp_path_factory.mktemp("gateway") / "ledger.jsonl").start()
    yield process
    process.stop()


@pytest.fixture(scope="package", params=SUBJECTS)
def running(
    request: pytest.FixtureRequest,
    broker: Broker,
    postgres: Postgres,
    migrated_template: str,
    gateway: GatewayProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """A subject with one worker, on a database and topics of its own."""
    subject = SUBJECTS[request.param]
    database = f"conformance_{subject.name.replace('-', '_')}"
    with closing(psycopg2.connect(postgres.dsn_of("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"create database {database} template {migrated_template}")
    dsn = postgres.dsn_of(database)
    seed(dsn)
    if subject.schema:
        query(dsn, subject.schema)
    directory: Path = tmp_path_factory.mktemp(subject.name)
    stage = Stage(subject, broker.bootstrap, dsn, directory, gateway)
    try:
        stage.start()
        yield stage
    finally:
        stage.close()


@pytest.fixture
def stage(request: pytest.FixtureRequest, running: Stage) -> Iterator[Stage]:
    """The subject's stage; skips what the subject is exempt from. A test that leaves it without a
    healthy worker costs a restart."""
    if (reason := running.subject.exempt.get(request.node.originalname)) is not None:
        pytest.skip(f"{running.subject.name}: {reason}")
    yield running
    if not running.status().get("ready"):
        running.heal()


@pytest.fixture
def whole_path(stage: Stage) -> Stage:
    """The stage of a subject that stands for its kind of handler; skips for the others."""
    if not stage.subject.whole_path:
        pytest.skip("the core alone decides here; proven on the subjects of its two paths")
    return stage
