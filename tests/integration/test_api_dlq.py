"""The API of dead letters: what is shown, what is asked for, what is refused; no Kafka needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from app.db import audit_log
from app.db.engine import Database
from app.messages import OrderCancel, PaymentResult, decode
from app.messages.deadletter import REDRIVES
from app.redrive import runner
from tests.integration.api_client import Client, api, problem
from tests.integration.participants import opened
from tests.integration.redrive_kit import (
    FakeOutlet,
    cancel,
    charge,
    dead,
    ended,
    index,
    keep_saga,
    saga_of,
    statuses,
    working,
)

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

DLT = "payment.requested.dlt"
CANCEL_DLT = "order.cancel.dlt"
NOBODY = "7be949cf-25c2-4848-a0de-c5c0f527b9f6"


@asynccontextmanager
async def served(dsn: str, **changes: Any) -> AsyncIterator[tuple[Client, Database]]:
    async with opened(dsn, 4) as db, api(dsn, **changes) as client:
        yield client, db


async def got(client: Client, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def asked(client: Client, path: str, body: Any = None, status: int = 202) -> Any:
    answer = await client.post(path, json=body, headers={"X-Operator": "ada"})
    assert answer.status == status, await answer.text()
    return await answer.json()


async def test_letters_are_counted_grouped_paged_and_shown(database: str) -> None:
    """Counts, groups whose messages differ in numbers only, pages without gap or repeat."""
    orders = [str(uuid4()) for _ in range(5)]
    letters = [dead(charge(one), n, detail=f"50{n}") for n, one in enumerate(orders)]
    junk = dead(charge(orders[0]), 9)._replace(
        value=b"\xff\x00junk", raw_headers=b"", error_class="poison", headers=[("ce_id", "?")]
    )
    async with served(database, dlq_shown_max_bytes=400) as (client, db):
        await index(db, [*letters, junk])
        found = await got(client, "/api/dlq/topics")
        assert found["open"] == 6
        assert [one["topic"] for one in found["topics"]] == [DLT]
        for name in (DLT, "payment.requested-dlt", "payment.requested.DLT", "payment.dlq"):
            assert (await got(client, f"/api/dlq/{name}/count"))["open"] == 6
        groups = (await got(client, "/api/dlq/groups"))["groups"]
        assert [one["open"] for one in groups] == [5, 1]
        seen: list[str] = []
        page = await got(client, f"/api/dlq/{DLT}/peek?n=2&status=open")
        while True:
            seen += [one["id"] for one in page["letters"]]
            if page["next"] is None:
                break
            page = await got(client, f"/api/dlq/{DLT}/peek?n=2&after={page['next']}")
        assert sorted(seen) == sorted(one.id for one in [*letters, junk])
        group = groups[0]["fingerprint"]
        assert len((await got(client, f"/api/dlq/{DLT}/peek?fingerprint={group}"))["letters"]) == 5
        shown = await got(client, f"/api/dlq/letters/{letters[2].id}")
        assert shown["payload"]["json"]["order_id"] == orders[2]
        assert {"name": "x-error-class", "text": "gateway_unavailable"} in shown["headers"]
        assert (shown["attempts"], shown["orderId"]) == (4, orders[2])
        assert shown["verdict"] == {"answer": "refused", "reason": "its order has no saga"}
        shown = await got(client, f"/api/dlq/letters/{junk.id}")
        assert shown["payload"]["hexdump"].startswith("00000000  ff 00 6a 75 6e 6b ")
        assert shown["payload"]["hexdump"].endswith("|..junk|")
        assert "unreadable" in shown["verdict"]["reason"]


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(database: str) -> None:
    """One that would act, one refused, with the reason, per letter."""
    going, cancelled = str(uuid4()), str(uuid4())
    async with served(database) as (client, db):
        await keep_saga(db, saga_of(going))
        await keep_saga(db, saga_of(cancelled, OrderCancel(order_id=cancelled)))
        await index(db, [dead(charge(one), n) for n, one in enumerate((going, cancelled))])
        said = await asked(client, f"/api/dlq/{DLT}/replay", {"dryRun": True}, 200)
        assert (said["matched"], said["tally"]) == (2, {"act": 1, "refused": 1})
        assert {one["orderId"]: one["answer"] for one in said["letters"]} == {
            going: "act",
            cancelled: "refused",
        }
        assert await statuses(db) == {"OPEN": 2}
        assert (await got(client, "/api/dlq/jobs"))["jobs"] == []
        assert await audit_log.recent(db, 10) == []


async def test_a_replay_is_followed_and_a_second_one_has_nothing_to_do(database: str) -> None:
    """The count falls; the job tells its progress; the audit log names who asked and why."""
    outlet = FakeOutlet()
    letters = [dead(cancel(str(uuid4())), n, role="audit") for n in range(4)]
    async with served(database) as (client, db):
        await index(db, letters)
        body = {"ids": [letters[0].id, letters[0].id], "ratePerS": 50, "reason": "one first"}
        first = await asked(client, f"/api/dlq/{CANCEL_DLT}/replay", body)
        async with working(db, database, outlet):
            await ended(db, first["id"])
            found = await got(client, f"/api/dlq/jobs/{first['id']}")
            assert (found["status"], found["done"], found["total"]) == ("DONE", 1, 1)
            assert (found["requestedBy"], found["reason"]) == ("ada", "one first")
            assert (await got(client, f"/api/dlq/{CANCEL_DLT}/count"))["open"] == 3
            answer = await client.post(f"/api/dlq/{CANCEL_DLT}/replay", json=body)
            assert (await problem(answer, 409))["code"] == "not_open"
            path = f"/api/dlq/{CANCEL_DLT}/replay-range?fromOffset=1&toOffset=2"
            await ended(db, (await asked(client, path))["id"])
            await ended(db, (await asked(client, "/api/dlq/replay-all"))["id"])
            answer = await client.post("/api/dlq/replay-all")
            assert (await problem(answer, 409))["code"] == "nothing_open"
        assert len(outlet.sent) == 4
        acts = await audit_log.recent(db, 10)
        assert [one.action for one in acts] == ["dead_letter.redrive"] * 3
        assert len((await got(client, "/api/dlq/jobs?limit=2"))["jobs"]) == 2


async def test_an_edited_letter_is_replaced_by_a_new_message(database: str) -> None:
    """Another id, caused by the letter, for the consumer that failed; junk is put right."""
    outlet = FakeOutlet()
    order_id = str(uuid4())
    junk = dead(cancel(order_id), 3, role="orchestrator")._replace(value=b"\xff")
    async with served(database) as (client, db):
        await keep_saga(db, saga_of(order_id))
        await index(db, [junk])
        path = f"/api/dlq/letters/{junk.id}/edit"
        answer = await client.post(path, json={"payload": {"order_id": 7}})
        assert "bad_body" in (await problem(answer, 422))["detail"]
        right = {"payload": {"order_id": order_id, "reason": "mended"}, "reason": "typo"}
        job = await asked(client, path, right)
        answer = await client.post(path, json=right)
        async with working(db, database, outlet):
            await ended(db, job["id"])
            answer = await client.post(path, json=right)
            assert (await problem(answer, 409))["code"] == "not_open"
        sent = outlet.sent[0]
        message = decode(sent.topic, sent.headers, sent.key, sent.value)
        assert (message.body.reason, message.retry_role) == ("mended", "orchestrator")
        assert message.event_id != junk.event_id
        assert message.correlation_id == order_id
        assert dict(sent.headers)[REDRIVES] == b"1"
        assert {one.key: one.value for one in outlet.sent} == {sent.key: sent.value}
        assert await statuses(db) == {"REDRIVEN": 1}
        act = (await audit_log.recent(db, 10))[-1]
        assert (act.action, act.detail["event_id"]) == ("dead_letter.edit", message.event_id)


async def test_an_edited_command_must_be_what_its_saga_waits_for(database: str) -> None:
    """Another amount would be a charge that no saga knows of; the right one keeps the saga's id."""
    outlet = FakeOutlet()
    order_id = str(uuid4())
    original = charge(order_id)
    junk = dead(original, 3)._replace(value=b"{")
    async with served(database) as (client, db):
        await keep_saga(db, saga_of(order_id))
        await index(db, [junk])
        path = f"/api/dlq/letters/{junk.id}/edit"
        payload = json.loads(original.value or b"")
        answer = await client.post(path, json={"payload": {**payload, "amount_minor": 1}})
        assert (await problem(answer, 409))["code"] == "not_what_its_saga_waits_for"
        job = await asked(client, path, {"payload": payload})
        async with working(db, database, outlet):
            await ended(db, job["id"])
        (sent,) = outlet.sent
        message = decode(sent.topic, sent.headers, sent.key, sent.value)
        first = decode(original.topic, original.headers, original.key, original.value)
        assert (message.event_id, message.redrives) == (first.event_id, 1)


async def test_a_discarded_letter_has_its_reason(database: str) -> None:
    """Without a reason nothing is put away."""
    letters = [dead(cancel(str(uuid4())), n, role="audit") for n in range(2)]
    async with served(database) as (client, db):
        await index(db, letters)
        path = f"/api/dlq/{CANCEL_DLT}/discard"
        for body in ({}, {"reason": ""}, {"reason": " "}):
            await problem(await client.post(path, json=body), 422)
        body = {"reason": "test data", "ids": [letters[0].id]}
        job = await asked(client, path, body)
        async with working(db, database, FakeOutlet()):
            await ended(db, job["id"])
        shown = await got(client, f"/api/dlq/letters/{letters[0].id}")
        assert (shown["status"], shown["note"], shown["settledBy"]) == (
            "DISCARDED",
            "test data",
            "ada",
        )
        assert await statuses(db) == {"OPEN": 1, "DISCARDED": 1}


async def test_a_purge_spares_what_a_running_saga_needs(database: str) -> None:
    """409 names how many; `force` goes on."""
    order_id = str(uuid4())
    async with served(database) as (client, db):
        answer = await client.delete(f"/api/dlq/{DLT}")
        assert (await problem(answer, 404))["code"] == "nothing_indexed"
        await keep_saga(db, saga_of(order_id))
        await index(db, [dead(charge(order_id), 4)])
        found = await problem(await client.delete(f"/api/dlq/{DLT}"), 409)
        assert (found["code"], found["letters"]) == ("needed_by_sagas", 1)
        answer = await client.delete(f"/api/dlq/{DLT}?force=true&reason=old")
        assert answer.status == 202
        job = await answer.json()
        assert (job["kind"], job["force"], job["total"]) == ("purge", True, 1)
        stop = await asked(client, f"/api/dlq/jobs/{job['id']}/cancel")
        assert stop["cancelRequested"] is True
        async with working(db, database, FakeOutlet()):
            assert (await ended(db, job["id"])).status == "CANCELLED"
        await problem(await client.post(f"/api/dlq/jobs/{job['id']}/cancel"), 409)


async def test_a_purge_that_has_begun_to_delete_is_finished(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling it is refused, whatever letters have become needed since."""
    deleting, go_on = asyncio.Event(), asyncio.Event()
    order_id = str(uuid4())

    async def delete_records(*_: Any) -> None:
        deleting.set()
        await go_on.wait()

    monkeypatch.setattr(runner, "delete_records", delete_records)
    async with served(database) as (client, db):
        await index(db, [dead(charge(order_id), 4)])
        job = await (await client.delete(f"/api/dlq/{DLT}")).json()
        async with working(db, database, FakeOutlet()), asyncio.timeout(30):
            await deleting.wait()
            await keep_saga(db, saga_of(order_id))
            answer = await client.post(f"/api/dlq/jobs/{job['id']}/cancel")
            go_on.set()
            found = await problem(answer, 409)
            done = await ended(db, job["id"])
    assert found["code"] == "purge_begun"
    assert (done.status, done.tally, done.cancel_requested) == ("DONE", {"purged": 1}, False)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/api/dlq/nothing.dlt/count", None, 404, "unknown_topic"),
        ("GET", f"/api/dlq/{DLT}/peek?n=0", None, 400, "bad_parameter"),
        ("GET", f"/api/dlq/{DLT}/peek?after=x", None, 400, "bad_parameter"),
        ("GET", f"/api/dlq/{DLT}/peek?status=lost", None, 400, "bad_parameter"),
        ("GET", f"/api/dlq/letters/{NOBODY}", None, 404, "not_found"),
        ("GET", "/api/dlq/letters/no-id", None, 404, "not_found"),
        ("GET", f"/api/dlq/jobs/{NOBODY}", None, 404, "not_found"),
        ("POST", f"/api/dlq/jobs/{NOBODY}/cancel", None, 404, "not_found"),
        ("POST", f"/api/dlq/{DLT}/replay", {"ids": [str(uuid4())]}, 404, "no_such_letters"),
        ("POST", f"/api/dlq/{DLT}/replay", {"ids": ["x"]}, 422, "invalid_request"),
        ("POST", f"/api/dlq/{DLT}/replay", {"ids": []}, 422, "invalid_request"),
        ("POST", f"/api/dlq/{DLT}/replay", {"ratePerS": 0}, 422, "invalid_request"),
        ("POST", f"/api/dlq/{CANCEL_DLT}/replay", {"ratePerS": 9999}, 422, "invalid_request"),
        ("POST", f"/api/dlq/{DLT}/replay", {"fingerprint": "0" * 16}, 404, "no_such_letters"),
        ("POST", f"/api/dlq/{DLT}/replay-range", None, 400, "bad_parameter"),
        (
            "POST",
            f"/api/dlq/{CANCEL_DLT}/replay-range",
            {"fromOffset": 5, "toOffset": 9},
            404,
            "no_such_letters",
        ),
        (
            "POST",
            f"/api/dlq/{CANCEL_DLT}/replay-range",
            {"fromOffset": 2, "toOffset": 1},
            422,
            "invalid_request",
        ),
    ],
)
async def test_a_mistake_is_answered_and_nothing_happens(
    database: str, method: str, path: str, body: Any, status: int, code: str
) -> None:
    """Unknown letters, offsets and topics, impossible values: a problem that says which."""
    async with served(database) as (client, db):
        await index(db, [dead(cancel(str(uuid4())), 0, role="audit")])
        answer = (
            await client.request(method, path, json=body)
            if body is not None
            else (await client.request(method, path))
        )
        assert (await problem(answer, status))["code"] == code
        assert (await got(client, "/api/dlq/jobs"))["jobs"] == []


async def test_a_result_is_judged_by_its_saga(database: str) -> None:
    """What the saga would ignore is done already; what it would take in would act."""
    from app import ids
    from app.messages import Cause, emit
    from app.topics import PAYMENT_RESULT
    from tests.integration.redrive_kit import NOW

    order_id = str(uuid4())
    command = ids.command_id(order_id, "payment", "forward")
    body = PaymentResult(
        order_id=order_id, command_id=command, operation="charge", outcome="OK", state_version=1
    )
    output = emit(Cause(command, order_id), PAYMENT_RESULT, body, event_id=str(uuid4()), now=NOW,
                  source="test")  # fmt: skip
    late = dead(output, 0, role="orchestrator")
    async with served(database) as (client, db):
        await index(db, [late])
        await keep_saga(db, saga_of(order_id))
        shown = await got(client, f"/api/dlq/letters/{late.id}")
        assert shown["verdict"]["answer"] == "act"
        await keep_saga(db, saga_of(order_id, body))
        shown = await got(client, f"/api/dlq/letters/{late.id}")
        assert shown["verdict"]["answer"] == "already_done"
