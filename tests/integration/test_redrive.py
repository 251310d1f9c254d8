"""Jobs on dead letters: each letter goes back once, whatever dies and whoever presses twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from app import failpoints
from app.db import audit_log, deadletters
from app.db import dead_letter_jobs as jobs
from app.db.dead_letter_jobs import Work
from app.db.engine import statement
from app.messages import OrderCancel, decode
from app.messages.deadletter import read_failure
from app.redrive import runner
from tests.integration.participants import opened
from tests.integration.redrive_kit import (
    INBOX_DONE,
    NOW,
    FakeOutlet,
    ask,
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

pytestmark = pytest.mark.integration
DLT = "payment.requested.dlt"
TAKEN_OVER = statement(
    "update ops.dead_letter_job set owner = 'dlq-2',"
    " lease_until = clock_timestamp() + interval '0.2 s'"
)


def order_ids(number: int) -> list[str]:
    return [str(uuid4()) for _ in range(number)]


async def test_a_letter_goes_back_as_it_came_and_counts_its_redrive(database: str) -> None:
    """Same topic, key, partition and id; attempts anew, one redrive more, a deadline from now."""
    (order_id,) = order_ids(1)
    outlet = FakeOutlet()
    original = charge(order_id)
    async with opened(database, 4) as db:
        await keep_saga(db, saga_of(order_id))
        await index(db, [dead(original, 5)])
        async with working(db, database, outlet):
            job = await ended(db, await ask(db, Work(topic=DLT), reason="gateway is back"))
        assert (job.status, job.done, job.refused, job.tally) == ("DONE", 1, 0, {"act": 1})
        (sent,) = outlet.sent
        assert (sent.topic, sent.key, sent.partition) == (original.topic, original.key, 0)
        again = decode(sent.topic, sent.headers, sent.key, sent.value)
        first = decode(original.topic, original.headers, original.key, original.value)
        assert (again.event_id, again.redrives, again.attempt) == (first.event_id, 1, 0)
        assert again.body.not_after > NOW
        assert read_failure(sent.headers).retry_role == "payment"
        (letter,) = await deadletters.peek(db, DLT, 10)
        assert (letter.status, letter.settled_by, letter.job_id) == ("REDRIVEN", "ada", job.id)
        (act,) = await audit_log.recent(db, 10)
        assert (act.actor, act.action, act.reason) == ("ada", "dead_letter.redrive",
                                                       "gateway is back")  # fmt: skip


async def test_what_must_not_or_need_not_be_sent_is_not(database: str) -> None:
    """An order that turned back stays so, junk stays where it is, what is done is put away."""
    parked, cancelled, finished = order_ids(3)
    outlet = FakeOutlet()
    async with opened(database, 4) as db:
        await keep_saga(db, saga_of(parked))
        await keep_saga(db, saga_of(cancelled, OrderCancel(order_id=cancelled)))
        letters = [dead(charge(one), number) for number, one in enumerate((parked, cancelled))]
        await keep_saga(db, saga_of(finished))
        done = dead(charge(finished), 2)
        await db.execute(INBOX_DONE, event_id=done.event_id)
        junk = dead(charge(parked), 3)._replace(value=b"{junk")
        await index(db, [*letters, done, junk])
        async with working(db, database, outlet):
            job = await ended(db, await ask(db, Work(topic=DLT)))
        assert [one.key for one in outlet.sent] == [parked.encode()]
        assert (
            job.tally
            == {
                "act": 1,
                "refused: the order is COMPENSATING (customer)": 1,
                "already_done: payment has finished it": 1,
                "refused: unreadable: bad_json": 1,
            }
            or job.tally.get("refused: unreadable: bad_utf8") == 1
        )
        assert await statuses(db) == {"REDRIVEN": 1, "OPEN": 2, "DISCARDED": 1}


async def test_two_operators_and_two_workers_send_each_letter_once(database: str) -> None:
    """Two jobs over the same letters, done by two workers at once, share them."""
    ids = order_ids(300)
    outlet = FakeOutlet()
    async with opened(database, 8) as db:
        await index(db, [dead(cancel(one), n, role="audit") for n, one in enumerate(ids)])
        both = [await ask(db, Work(topic="order.cancel.dlt"), actor=who) for who in ("ada", "bob")]
        async with working(db, database, outlet, "dlq-1", "dlq-2", dlq_batch_max=20):
            found = [await ended(db, one) for one in both]
        assert sum(one.done for one in found) == 300
        assert Counter(one.key for one in outlet.sent) == Counter(one.encode() for one in ids)
        assert await statuses(db) == {"REDRIVEN": 300}


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs in the worker."""


@pytest.mark.parametrize("point", ["dlq.after_claim", "dlq.before_redrive", "dlq.after_redrive"])
async def test_a_killed_workers_job_is_taken_over(
    database: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its batch had sent is sent again as the same records; the rest is sent once."""
    ids = order_ids(30)
    outlet = FakeOutlet()
    hits: list[str] = []

    async def die(hit: Any) -> None:
        hits.append(hit.point)
        if len(hits) == 2:
            raise Killed

    async with opened(database, 8) as db:
        await index(db, [dead(cancel(one), n, role="audit") for n, one in enumerate(ids)])
        job_id = await ask(db, Work(topic="order.cancel.dlt"))
        failpoints.install(point, die)
        try:
            with pytest.raises(Killed):
                async with working(db, database, outlet, "dlq-1", dlq_batch_max=10) as party:
                    await party.tasks[0]
        finally:
            failpoints.remove(point)
        left = await statuses(db)
        assert left["CLAIMED"] == 10
        async with working(db, database, outlet, "dlq-2"):
            job = await ended(db, job_id)
        assert (job.status, job.done, job.total) == ("DONE", 30, 30)
        assert await statuses(db) == {"REDRIVEN": 30}
        copies = Counter(one.key for one in outlet.sent)
        repeated = 10 if point == "dlq.after_redrive" else 0
        assert sum(copies.values()) == 30 + repeated
        assert len({(one.key, one.value, tuple(one.headers)) for one in outlet.sent}) == 30


async def test_a_cancelled_job_stops_and_leaves_the_rest_open(database: str) -> None:
    """Progress and checkpoint say how far it came; another job takes the rest."""
    ids = order_ids(40)
    outlet = FakeOutlet()
    async with opened(database, 8) as db:
        await index(db, [dead(cancel(one), n, role="audit") for n, one in enumerate(ids)])
        job_id = await ask(db, Work(topic="order.cancel.dlt"), rate_per_s=40)
        async with working(db, database, outlet):
            async with asyncio.timeout(20):
                while len(outlet.sent) < 10:
                    await asyncio.sleep(0.01)
            async with db.transaction() as tx:
                assert await jobs.request_cancel(tx, job_id, jobs.Request("bob", "enough"))
            job = await ended(db, job_id)
            assert job.status == "CANCELLED"
            assert 10 <= job.done < 40
            assert job.checkpoint.offset == job.done - 1
            assert await statuses(db) == {"REDRIVEN": job.done, "OPEN": 40 - job.done}
            async with db.transaction() as tx:
                assert not await jobs.request_cancel(tx, job_id, jobs.Request("bob"))
            rest = await ended(db, await ask(db, Work(topic="order.cancel.dlt")))
        assert (rest.done, len(outlet.sent)) == (40 - job.done, 40)


async def test_a_job_leaves_out_what_came_after_it(database: str) -> None:
    """A letter that fails again at once cannot keep its job running for ever."""
    outlet = FakeOutlet()
    first, second = order_ids(2)
    async with opened(database, 4) as db:
        await index(db, [dead(cancel(first), 0, role="audit")])
        job_id = await ask(db, Work())
        later = dead(cancel(second), 1, role="audit")
        job = await jobs.get(db, job_id)
        assert job is not None
        await index(db, [later._replace(at=job.created_at.replace(year=2100))])
        async with working(db, database, outlet):
            assert (await ended(db, job_id)).done == 1
        assert await statuses(db) == {"REDRIVEN": 1, "OPEN": 1}


async def test_a_range_and_a_group_are_what_they_say(database: str) -> None:
    """Offsets are inclusive and over all partitions; a group is one cause whatever the numbers."""
    ids = order_ids(6)
    outlet = FakeOutlet()
    async with opened(database, 4) as db:
        letters = [dead(cancel(one), n, role="audit") for n, one in enumerate(ids[:5])]
        letters[4] = letters[4]._replace(partition=1, offset=2)
        other = dead(cancel(ids[5]), 9, role="audit")._replace(error_class="poison")
        await index(db, [*letters, other])
        assert len({one.fingerprint for one in letters}) == 1
        async with working(db, database, outlet):
            ranged = Work(topic="order.cancel.dlt", from_offset=1, to_offset=2)
            assert (await ended(db, await ask(db, ranged))).done == 3
            group = Work(fingerprint=letters[0].fingerprint)
            assert (await ended(db, await ask(db, group))).done == 2
        assert await statuses(db) == {"REDRIVEN": 5, "OPEN": 1}


async def test_a_failing_job_that_was_taken_over_leaves_its_worker_alive(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lost the lease may not write that the job failed, and goes on with other jobs."""
    tries: list[str] = []

    async def delete_records(*_: Any) -> None:
        tries.append("delete")
        if len(tries) == 1:
            await db.execute(TAKEN_OVER)
            raise ValueError("a defect")

    monkeypatch.setattr(runner, "delete_records", delete_records)
    async with opened(database, 4) as db:
        await index(db, [dead(cancel(order_ids(1)[0]), 0, role="audit")])
        job_id = await ask(db, Work(topic="order.cancel.dlt", ends={0: 1}), kind="purge")
        async with working(db, database, FakeOutlet()):
            job = await ended(db, job_id)
    assert (job.status, job.error, len(tries)) == ("DONE", "", 2)
