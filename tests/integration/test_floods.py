"""Floods of dead letters in the API and on the command line, over real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from app.db import audit_log, floods
from app.db.engine import Database
from app.errors import SymphonyError
from chaos.console.dlq import register
from tests.integration.api_client import api, problem
from tests.integration.participants import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

WHY = "more than 5 dead letters within 60 s"
root = typer.Typer()
register(root)


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    """The product's facade, with consumer payment stopped."""
    async with opened(database) as opened_db:
        await floods.open_flood(opened_db, "payment", 6, WHY)
        yield opened_db


async def symphony(*arguments: str) -> Result:
    """Run a command in a thread, as the API lives in this loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(root, list(arguments)))


async def test_a_stopped_consumer_is_listed_and_released_once(database: str, db: Database) -> None:
    """The act is recorded with its actor; a second release finds nothing to do."""
    async with api(database) as client:
        listed = await (await client.get("/api/dlq/floods")).json()
        (flood,) = listed["floods"]
        assert (flood["consumer"], flood["stopped"], flood["detail"]) == ("payment", True, WHY)
        headers = {"X-Operator": "ada"}
        body = {"reason": "bad deployment rolled back"}
        path = "/api/dlq/floods/payment/release"
        answer = await client.post(path, json=body, headers=headers)
        assert answer.status == 200
        assert (await answer.json())["releasedBy"] == "ada"
        assert await floods.find(db, "payment") is None
        again = await problem(await client.post(path), 409)
        assert again["code"] == "not_stopped"
    (act,) = await audit_log.recent(db, 10)
    assert (act.actor, act.action, act.target) == ("ada", "flood.release", "payment")
    assert (act.reason, act.detail["detail"]) == ("bad deployment rolled back", WHY)


async def test_a_released_consumer_can_be_stopped_again(database: str, db: Database) -> None:
    """A row that stops stays as it is; one that was released begins anew."""
    await floods.open_flood(db, "payment", 9, "later")
    kept = await floods.find(db, "payment")
    assert kept is not None
    assert (kept.dead_letters, kept.detail) == (6, WHY)
    async with db.transaction() as tx:
        assert await floods.release(tx, "payment", released_by="ada")
    await floods.open_flood(db, "payment", 9, "later")
    found = await floods.find(db, "payment")
    assert found is not None
    assert (found.dead_letters, found.detail, found.released_by) == (9, "later", "")


async def test_mistakes_are_answered(database: str, db: Database) -> None:
    """An unknown consumer, a body that is none."""
    async with api(database) as client:
        await problem(await client.post("/api/dlq/floods/nobody/release"), 404)
        await problem(await client.post("/api/dlq/floods/a%00b/release"), 404)
        path = "/api/dlq/floods/payment/release"
        await problem(await client.post(path, json={"cause": "x"}), 422)
        as_json = {"Content-Type": "application/json"}
        await problem(await client.post(path, data=b"{", headers=as_json), 400)
        bad = await client.post(path, headers={"X-Operator": ""})
        await problem(bad, 400)
    assert await floods.find(db, "payment") is not None


async def test_the_commands_list_and_release(database: str, db: Database) -> None:
    """In words and as JSON, each with one sentence for a mistake."""
    async with api(database) as client:
        url = str(client.make_url(""))
        listed = await symphony("dlq", "floods", "--url", url)
        assert "symphony dlq release payment" in listed.output
        assert WHY in listed.output
        released = await symphony("dlq", "release", "payment", "--operator", "bob", "--url", url)
        assert "payment goes on" in released.output
        listed = await symphony("dlq", "floods", "--url", url, "--json")
        assert json.loads(listed.output)[0]["releasedBy"] == "bob"
        failed = await symphony("dlq", "release", "payment", "--url", url)
        assert isinstance(failed.exception, SymphonyError)
        assert "is not stopped" in failed.exception.detail
