"""Time travel in the API and on the command line, over real PostgreSQL; no worker is needed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from app.db import audit_log, journal, rewinds
from app.errors import SymphonyError
from chaos.console.replay import register
from tests.integration.api_client import api, problem
from tests.integration.participants import opened
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.db.engine import Database

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

root = typer.Typer()
register(root)


@root.command()
def other() -> None:
    """Without a second command Typer would make `replay` the root itself."""


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    """The product's facade; a worker of role payment runs, as far as anybody knows."""
    async with opened(database) as opened_db:
        async with opened_db.transaction() as tx:
            await journal.start_run(tx, "payment", "payment-1", "payment-1.a")
        yield opened_db


async def symphony(*arguments: str) -> Result:
    """Run a command in a thread, as the API lives in this loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(root, list(arguments)))


def asked(group: str, duration: str) -> dict[str, Any]:
    return {"consumerGroupId": group, "duration": duration, "reason": "consumer fixed"}


@pytest.mark.parametrize("group", ["payment", "symphony-payment"])
@pytest.mark.parametrize("duration", ["5m", "PT5M"])
async def test_a_replay_is_queued_once_and_recorded(
    database: str, db: Database, group: str, duration: str
) -> None:
    """By role or group, in either spelling; a second one waits for the first to end."""
    async with api(database) as client:
        before = datetime.now(UTC)
        answer = await client.post("/api/replay", json=asked(group, duration))
        assert answer.status == 202
        replay = await answer.json()
        assert (replay["role"], replay["status"]) == ("payment", "QUEUED")
        assert (replay["records"], replay["positions"]) == (None, None)
        found = await rewinds.queued(db, "payment")
        assert found is not None
        assert found.id == replay["id"]
        assert abs(found.since - (before - timedelta(minutes=5))) < timedelta(seconds=30)
        again = await client.post("/api/replay", json=asked("payment", "1m"))
        assert (await problem(again, 409))["code"] == "replay_queued"
        await rewinds.plan(db, found.id, [rewinds.Position("payment.requested", 0, 9, 4)])
        kept = await rewinds.plan(db, found.id, [rewinds.Position("payment.requested", 0, 4, 4)])
        assert kept == [("payment.requested", 0, 9, 4)], "the first plan stays"
        await rewinds.end(db, found.id, rewinds.DONE)
        await rewinds.end(db, found.id, rewinds.FAILED, "too late")
        assert await rewinds.plan(db, found.id, []) is None
        done = await (await client.get(f"/api/replay/{found.id}")).json()
        assert (done["status"], done["records"], done["error"]) == ("DONE", 5, None)
        assert (await client.post("/api/replay", json=asked("payment", "1m"))).status == 202
        listed = await (await client.get("/api/replay")).json()
        assert [one["status"] for one in listed["replays"]] == ["QUEUED", "DONE"]
    acts = await audit_log.recent(db, 10, target="payment")
    assert [(act.action, act.detail["duration"]) for act in acts] == [
        ("role.replay", "1m"),
        ("role.replay", duration),
    ]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (asked("nobody", "5m"), 422, "there is no such role or group"),
        (asked("symphony-nobody", "5m"), 422, "there is no such role or group"),
        (asked("web", "5m"), 422, "role web reads no topics"),
        (asked("payment", "5x"), 422, "write it like 90s, 5m"),
        (asked("payment", "0s"), 422, "more than 0"),
        (asked("payment", "-5m"), 422, "write it like"),
        (asked("payment", "8d"), 422, "kept for 7 days"),
        ({"consumerGroupId": "payment"}, 422, "duration"),
        (asked("payment", "5m") | {"to": "now"}, 422, "unknown field"),
        (asked("shipping", "5m"), 409, "No worker of role shipping runs"),
    ],
)
async def test_mistakes_queue_nothing(
    database: str, db: Database, body: dict[str, Any], status: int, message: str
) -> None:
    """Each is answered with what is wrong, and leaves no trace."""
    async with api(database) as client:
        said = await problem(await client.post("/api/replay", json=body), status)
        assert message in said["detail"]
        for unknown in ("no-uuid", "01a1fec8-073e-72a8-850f-0209f5ec20aa"):
            await problem(await client.get(f"/api/replay/{unknown}"), 404)
    assert await rewinds.recent(db, 10) == []
    assert await audit_log.recent(db, 10) == []


async def test_the_command_follows_a_replay_to_its_end(database: str, db: Database) -> None:
    """It says how many records are read again, or why none; mistakes are one sentence."""
    async with api(database) as client:
        url = str(client.make_url(""))
        following = asyncio.create_task(
            symphony("replay", "payment", "5m", "--follow", "--json", "--url", url)
        )
        found = await eventually(
            lambda: rewinds.queued(db, "payment"), timeout_s=30, what="a queued rewind"
        )
        await rewinds.plan(db, found.id, [rewinds.Position("payment.requested", 0, 9, 4)])
        await rewinds.end(db, found.id, rewinds.DONE)
        followed = await following
        assert followed.exit_code == 0
        assert json.loads(followed.output)["records"] == 5
        late = await symphony("replay", "payment", "5m", "--follow", "--timeout", "0", "--url", url)
        assert late.exit_code == 1
        assert "is queued" in late.output
        failed = await symphony("replay", "payment", "5x", "--url", url)
        assert isinstance(failed.exception, SymphonyError)
        assert "5x" in failed.exception.detail
