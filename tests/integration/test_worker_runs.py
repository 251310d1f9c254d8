"""A worker's start is registered once, however often the database makes it try."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.db.engine import Database
from app.delivery import lifecycle
from app.delivery.killer import open_run
from app.errors import DatabaseOutage
from app.settings import load_settings
from tests.integration.api_client import query

pytestmark = pytest.mark.integration

RUNS = "select incarnation, ended_at is null from ops.worker_run order by started_at"


def app_of(db: Any, dsn: str, incarnation: str) -> Any:
    """What registering needs of an application."""
    settings = load_settings(role="payment", postgres_dsn=dsn, incarnation=incarnation)
    return SimpleNamespace(settings=settings, db=db, role=SimpleNamespace(name="payment"))


async def test_registering_again_changes_nothing(database: str, tmp_path: Path) -> None:
    """A COMMIT that was not answered is repeated; the run before is closed, the own one is not."""
    db = await Database.open(load_settings(postgres_dsn=database), application_name="runs")
    await open_run(app_of(db, database, "old"), tmp_path)
    app = app_of(db, database, "new")
    for _ in range(2):
        await open_run(app, tmp_path)
    await db.close()
    assert query(database, RUNS) == [("payment-1.old", False), ("payment-1.new", True)]


async def test_a_database_that_is_away_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The start goes on to wait, and says for what; another error ends it."""
    errors: list[Exception] = [DatabaseOutage("it did not answer"), ValueError("a defect")]

    async def refuse(*_: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(lifecycle, "open_run", refuse)
    one: Any = lifecycle.Lifecycle.__new__(lifecycle.Lifecycle)
    one._app, one.probe = None, SimpleNamespace(waiting_for="")
    assert not await one._registered(tmp_path)
    assert one.probe.waiting_for == "PostgreSQL"
    with pytest.raises(ValueError, match="a defect"):
        await one._registered(tmp_path)
