"""The database facade on the event loop that workers run on."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
import uvloop

from app.db.engine import Database, statement
from app.errors import DatabaseOutage
from app.settings import load_settings
from chaos.lab.postgres import Postgres
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.faults]

PING = statement("select 1")
ATTEMPTS = 40


async def _outages(server: Postgres) -> Counter[str]:
    """Errors of attempts while the server is away, over several outages, then an answer."""
    errors: Counter[str] = Counter()
    settings = load_settings(postgres_dsn=server.dsn)
    database = await Database.open(settings, application_name="uvloop-test")

    async def answers() -> bool:
        try:
            return await database.fetch(PING) == [(1,)]
        except DatabaseOutage:
            return False

    await database.wait_ready(10)
    for mode in ("fast", "immediate"):
        await asyncio.to_thread(server.stop, mode)
        for _ in range(ATTEMPTS):
            try:
                await database.fetch(PING)
            except Exception as error:
                errors[type(error).__name__] += 1
        await asyncio.to_thread(server.start)
        await eventually(answers, timeout_s=20, what="an answer after the outage")
    await database.close()
    return errors


def test_every_refused_connection_is_an_outage(public_dir: Path) -> None:
    """While the server is away each attempt says DatabaseOutage, whatever descriptor it reuses."""
    server = Postgres(public_dir / "postgres", fsync=False)
    server.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(_outages(server)) == {"DatabaseOutage": 2 * ATTEMPTS}
    finally:
        server.kill()
