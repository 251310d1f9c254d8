"""`symphony dlq` against the API on real PostgreSQL, with a worker that needs no broker."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner, Result

from app.errors import SymphonyError
from chaos.console.dlq import register
from tests.integration.api_client import api
from tests.integration.participants import opened
from tests.integration.redrive_kit import (
    FakeOutlet,
    cancel,
    dead,
    ended,
    index,
    statuses,
    working,
)

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

DLT = "order.cancel.dlt"
root = typer.Typer()
register(root)


async def symphony(*arguments: str) -> Result:
    """Run a command in a thread, as the API lives in this loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(root, list(arguments)))


async def test_letters_are_looked_at_sent_back_and_put_away(database: str) -> None:
    """ls, groups, show, replay --dry-run, replay --follow, discard, jobs, cancel agree."""
    letters = [dead(cancel(str(uuid4())), n, role="audit") for n in range(4)]
    async with opened(database, 4) as db, api(database) as client:
        await index(db, letters)
        url = ("--url", str(client.make_url("")))
        counted = await symphony("dlq", "ls", *url)
        assert "4 open" in counted.output
        listed = json.loads((await symphony("dlq", "ls", DLT, *url, "--json")).output)
        assert len(listed["letters"]) == 4
        assert "gateway_unavailable: " in (await symphony("dlq", "groups", *url)).output
        shown = await symphony("dlq", "show", letters[1].id, *url)
        assert f"{DLT}[0]@1: OPEN" in shown.output
        assert '"requested_by": "customer"' in shown.output
        said = await symphony("dlq", "replay", DLT, "--dry-run", *url)
        assert "4 of 4 looked at: 4 act; nothing changed" in said.output
        outlet = FakeOutlet()
        async with working(db, database, outlet):
            ranged = ("--from-offset", "1", "--to-offset", "2", "--rate", "50", "--follow")
            done = await symphony("dlq", "replay", DLT, *ranged, *url)
            assert done.exit_code == 0, done.output
            assert "is DONE: 2 of 2 done" in done.output
            away = ("--reason", "test data", "--id", letters[0].id, "--follow", "--json")
            put = await symphony("dlq", "discard", DLT, *away, *url)
            job = json.loads(put.stdout)
            assert (job["kind"], job["done"]) == ("discard", 1)
            payload = json.dumps({"order_id": letters[3].order_id, "reason": "mended"})
            edited = await symphony("dlq", "edit", letters[3].id, payload, "--follow", *url)
            assert edited.exit_code == 0, edited.output
        assert len(outlet.sent) == 3
        assert await statuses(db) == {"REDRIVEN": 3, "DISCARDED": 1}
        purged = await symphony("dlq", "purge", DLT, "--operator", "bob", "--json", *url)
        job = json.loads(purged.output)
        assert (job["kind"], job["requestedBy"]) == ("purge", "bob")
        stopped = await symphony("dlq", "cancel", job["id"], *url)
        assert "stops: 0 of 0 done" in stopped.output
        async with working(db, database, outlet):
            await ended(db, job["id"])
        told = await symphony("dlq", "jobs", *url)
        assert [word for word in ("CANCELLED", "edit", "discard") if word in told.output]
        failed = await symphony("dlq", "jobs", job["id"], "--follow", *url)
        assert failed.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", DLT], "There are no dead letters"),
        (["replay", "--id", "x"], "name the topic"),
        (["ls", "nothing"], "There is no dead-letter topic nothing"),
        (["show", "x"], "There is no such dead letter"),
        (["edit", "x", "{"], "the payload is not JSON"),
        (["jobs", "x"], "There is no such job"),
    ],
)
async def test_a_mistake_is_answered_with_one_sentence(
    database: str, arguments: list[str], message: str
) -> None:
    """The reason reaches the person, without a traceback of ours."""
    async with api(database) as client:
        failed = await symphony("dlq", *arguments, "--url", str(client.make_url("")))
        assert failed.exit_code != 0
        assert isinstance(failed.exception, SymphonyError)
        assert message in failed.exception.detail
