"""Fixtures every test may use: one broker and one database server per run, a fresh database each.

The servers are real and start on first use, so tests without them never wait for them.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
from tests.side_by_side import SideBySide, rank_of

TEMPLATE = "symphony_template"
_numbers = itertools.count(1)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SideBySide:
    """Tests that share servers stay together when the suite runs side by side."""
    config.option.loadscopereorder = False
    return SideBySide(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups first."""
    items.sort(key=lambda item: rank_of(item.nodeid))


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """A directory every user may traverse: PostgreSQL gives up root's rights."""
    directory = Path(tempfile.mkdtemp(prefix="symphony-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def public_dir(servers_dir: Path) -> Iterator[Path]:
    """A directory of one test which other users may traverse, removed afterwards."""
    directory = servers_dir / f"test-{next(_numbers)}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def broker(servers_dir: Path) -> Iterator[Broker]:
    """The broker shared by all tests; a test uses topic and group names of its own."""
    server = Broker(servers_dir / "broker")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgres(servers_dir: Path) -> Iterator[Postgres]:
    """The database server shared by all tests; `database` gives each its own database."""
    server = Postgres(servers_dir / "postgres", fsync=False)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> str:
    """The name of a database with all migrations applied, to be copied, never connected to."""
    from app.db.migrate import upgrade

    _execute(postgres, f"create database {TEMPLATE}")
    upgrade(postgres.dsn_of(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """The DSN of a fresh, migrated database of this test alone."""
    name = f"test_{next(_numbers)}"
    _execute(postgres, f"create database {name} template {migrated_template}")
    yield postgres.dsn_of(name)
    _execute(postgres, f"drop database if exists {name} with (force)")


def _execute(postgres: Postgres, statement: str) -> None:
    with closing(psycopg2.connect(postgres.dsn_of("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
