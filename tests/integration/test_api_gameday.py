"""GameDays through the API, on a real database and without a lab: queue, history, abort."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.db import gamedays
from app.db.engine import Database
from app.settings import load_settings
from chaos.gameday import lock, web
from chaos.gameday.book import Book
from chaos.gameday.errors import GameDayError
from chaos.gameday.lock import alone
from tests.integration.api_client import Client, api, query

pytestmark = pytest.mark.integration

WANTED = {"experiment": "kill-payment", "overrides": {"seed": 4, "durationS": 12}}


@pytest.fixture
def served(database: str, tmp_path: Path) -> AbstractAsyncContextManager[Client]:
    """The API with GameDays, in a directory where no lab runs."""
    return api(database, extensions=[web.extend], lab_dir=tmp_path / "none")


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    """The database as the role sees it."""
    settings = load_settings(role="web", postgres_dsn=database)
    found = await Database.open(settings, application_name="test")
    yield found
    await found.close()


async def start(client: Client, body: Any = WANTED) -> tuple[int, dict[str, Any]]:
    """Status and answer of a start."""
    async with client.post("/api/gameday/start", json=body) as answer:
        return answer.status, await answer.json()


async def test_one_run_is_queued_and_a_second_refused(
    served: AbstractAsyncContextManager[Client], database: str
) -> None:
    """202 with what will be run, and whom nobody starts; then 409; both operators are on record."""
    async with served as client:
        status, run = await start(client)
        assert (status, run["status"], run["options"]["duration_s"]) == (202, "QUEUED", 12.0)
        assert "symphony worker gameday" in run["notice"]
        assert (await start(client))[0] == 409
        async with client.get("/api/gameday/status") as answer:
            assert (await answer.json())["running"]["id"] == run["id"]
        async with client.post(
            f"/api/gameday/runs/{run['id']}/abort", headers={"X-Operator": "ada"}
        ) as answer:
            assert answer.status == 202
            assert (await answer.json())["verdict"] == "aborted"
        async with client.post(f"/api/gameday/runs/{run['id']}/abort") as answer:
            assert answer.status == 409
        assert (await start(client))[0] == 202
    acts = query(database, "select actor, action from ops.audit_log order by id")
    assert acts == [
        ("operator", "gameday.start"), ("ada", "gameday.abort"), ("operator", "gameday.start"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"experiment": "no-such"}, 422, "unknown experiment"),
        ({"experiment": "../kill-payment"}, 422, "unknown experiment"),
        ({"experiment": "kill-payment", "overrides": {"durationS": 0}}, 422, ">= 1"),
        ({"experiment": "kill-payment", "overrides": {"colour": 1}}, 422, "unknown field"),
        ({}, 422, "experiment"),
        ([], 422, ""),
    ],
)
async def test_what_cannot_be_run_is_refused_and_leaves_nothing(
    served: AbstractAsyncContextManager[Client], database: str, body: Any, status: int, told: str
) -> None:
    """The reason is named, and no run is open."""
    async with served as client:
        found, answer = await start(client, body)
    assert found == status
    assert told in answer["detail"]
    assert query(database, "select count(*) from ops.gameday_run") == [(0,)]


async def test_history_report_and_journal_of_ended_runs(
    served: AbstractAsyncContextManager[Client], database: str
) -> None:
    """Newest first, page by page; a report may bring its style and nothing else."""
    book = Book(database)
    ids = []
    for number in range(3):
        run_id = book.begin("kill-payment", "t", {"seed": number}, by="x", owner="pid 1")
        with pytest.raises(GameDayError, match="is open"):
            book.begin("kill-payment", "t", {}, by="x", owner="pid 2")
        assert book.tell(run_id, "method", {"at_s": 1.0}) is False
        book.end(run_id, "passed", "", {"x-symphony": {"n": number, "junk": "\0"}}, b"<p>page</p>")
        ids.insert(0, run_id)
    async with served as client:
        async with client.get("/api/gameday/runs?limit=2") as answer:
            first = await answer.json()
        async with client.get(f"/api/gameday/runs?limit=2&before={first['next']}") as answer:
            second = await answer.json()
        assert [one["id"] for one in (*first["runs"], *second["runs"])] == ids
        assert second["next"] is None
        async with client.get(f"/api/gameday/runs/{ids[0]}/report") as answer:
            assert await answer.text() == "<p>page</p>"
            assert "script-src" not in answer.headers["Content-Security-Policy"]
            assert "sandbox" in answer.headers["Content-Security-Policy"]
        async with client.get(f"/api/gameday/runs/{ids[0]}/journal") as answer:
            assert (await answer.json())["x-symphony"]["n"] == 2
        for path in (str(uuid4()), f"{uuid4()}/report", f"{uuid4()}/journal", "x", "x/report"):
            async with client.get(f"/api/gameday/runs/{path}") as answer:
                assert answer.status == 404, path
        async with client.get("/api/gameday/experiments") as answer:
            assert "kill-payment" in {one["name"] for one in (await answer.json())["experiments"]}


async def test_the_book_records_who_began_and_who_ended_a_run(database: str) -> None:
    """As the API does; what changes nothing leaves no row."""
    book = Book(database)
    run_id = book.begin("kill-payment", "t", {"seed": 4}, by="ada", owner="pid 1")
    with pytest.raises(GameDayError, match="is open"):
        book.begin("kill-payment", "t", {}, by="bob", owner="pid 2")
    assert book.abort(run_id, by="bob")
    assert not book.abort(str(uuid4()), by="eve")
    acts = "select actor, action, target, detail from ops.audit_log order by id"
    assert query(database, acts) == [
        ("ada", "gameday.start", run_id, {"experiment": "kill-payment", "seed": 4}),
        ("bob", "gameday.abort", run_id, {}),
    ]


async def test_a_run_goes_on_after_postgresql_stood_still(
    served: AbstractAsyncContextManager[Client], database: str, db: Database, tmp_path: Path
) -> None:
    """What was asked for while PostgreSQL was frozen past the lease comes before the owner's next
    word: the run goes on, no other one begins, and it can be aborted.
    """
    root = tmp_path / "none"
    root.mkdir()
    book, going_on = Book(database), partial(lock.held, root)
    run_id = book.begin("kill-payment", "t", {}, by="x", owner="pid 1")
    with closing(alone(root)):
        query(database, "update ops.gameday_run set lease_until = now() - interval '1 minute'")
        await gamedays.expire(db, going_on)
        assert book.current(going_on).status == "RUNNING"  # type: ignore[union-attr]
        async with served as client:
            assert (await start(client))[0] == 409
            async with client.get("/api/gameday/status") as answer:
                assert (await answer.json())["running"]["id"] == run_id
            async with client.post(f"/api/gameday/runs/{run_id}/abort") as answer:
                assert answer.status == 202
        assert book.tell(run_id, "method", {}) is True
        query(database, "update ops.gameday_run set lease_until = now() - interval '1 minute'")
    assert book.current(going_on) is None
    assert book.find(run_id).verdict == "inconclusive"


async def test_a_run_whose_owner_is_gone_blocks_nobody(
    database: str, db: Database, tmp_path: Path
) -> None:
    """Its lease over, it is inconclusive; a queued one is claimed once."""
    book = Book(database)
    lost = book.begin("kill-payment", "t", {}, by="x", owner="pid 1")
    query(database, "update ops.gameday_run set lease_until = now()")
    await gamedays.expire(db, partial(lock.held, tmp_path))
    async with db.transaction() as tx:
        assert await gamedays.queue(tx, str(uuid4()), "kill-payment", "t", "{}", "x")
    assert (await gamedays.show(db, lost)).verdict == "inconclusive"  # type: ignore[union-attr]
    claimed = await gamedays.claim(db, "gameday-1")
    assert claimed is not None
    assert await gamedays.claim(db, "gameday-2") is None
    async with db.transaction() as tx:
        assert await gamedays.abort(tx, claimed[0])
    assert book.tell(claimed[0], "method", {}) is True
    await gamedays.lost(db, claimed[0], "it died")
    await gamedays.lost(db, lost, "too late: it has a verdict")
    assert (await gamedays.recent(db, 1))[0].error == "it died"
    assert (await gamedays.show(db, lost)).error.startswith("its process")  # type: ignore[union-attr]
