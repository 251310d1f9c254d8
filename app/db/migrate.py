"""Bring a database to the newest schema: migrations, logins and grants, seeded catalogue.

Guarantees: safe to run by many processes at once (advisory lock) and any number of times. There
are no downgrades: a release is undone by the next one.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.db.grants import apply_grants
from app.db.schema import SCHEMAS
from app.db.seed import insert_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

_LOCK = text("select pg_advisory_xact_lock(hashtext('chaos-symphony:migrate'))")


def upgrade(dsn: str) -> None:
    """Migrate the database at `dsn` to the newest schema and apply logins and grants.

    Everything happens in one transaction. Needs a user that may create roles and schemas. Raises
    sqlalchemy.exc.SQLAlchemyError; then nothing was changed.
    """
    with connect(dsn) as connection:
        connection.execute(_LOCK)
        for schema in SCHEMAS:
            connection.execute(text(f"create schema if not exists {schema}"))
        command.upgrade(alembic_config(connection), "head")
        apply_grants(connection)


def seed(dsn: str) -> int:
    """Insert the demonstration catalogue with its stock; return how many products were new.

    Products and stock that exist are left as they are.
    """
    with connect(dsn) as connection:
        return insert_catalogue(connection)


@contextmanager
def connect(dsn: str) -> Iterator[Connection]:
    """A synchronous connection in one transaction, for administration only."""
    url = make_url(dsn).set(drivername="postgresql+psycopg2")
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        yield connection


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for our scripts on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
