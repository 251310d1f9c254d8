"""Which dead letters are sent back when the breaker closes, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from app.clock import SystemClock
from app.db import auto_redrives
from app.db.engine import Database
from app.gateway.breaker import State
from app.gateway.client import observed_breaker
from app.redrive.automatic import CAUSES, AutoRedrive
from app.settings import load_settings
from tests.integration.api_client import query
from tests.integration.participants import NOW, opened

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]

_SECONDS = count()
JOBS = "select selection -> 'ids', rate_per_s, requested_by from ops.dead_letter_job"


def letter(dsn: str, **changes: Any) -> str:
    """Index one dead letter; return its id."""
    row = {
        "id": str(uuid4()), "topic": "payment.requested.dlt", "partition": 0,
        "offset": uuid4().int % 2**40, "origin_topic": "payment.requested", "origin_partition": 0,
        "origin_offset": 0, "consumer": "payment", "event_id": str(uuid4()),
        "error_class": "gateway_unavailable", "error_message": "status 500", "fingerprint": "f",
        "headers": "[]", "status": "OPEN", "settled_by": "", "first_failed_at": NOW, "at": NOW,
        **changes,
    }  # fmt: skip
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(["%s"] * len(row))
    query(dsn, f"insert into ops.dead_letter ({names}) values ({marks})", *row.values())
    return str(row["id"])


async def ask(db: Database, **changes: Any) -> int:
    limits: dict[str, Any] = {"redrives_max": 2, "letters_max": 100, "rate_per_s": 7, **changes}
    now = NOW + timedelta(seconds=next(_SECONDS))
    return await auto_redrives.queue(db, "payment", CAUSES, reason="closed", now=now, **limits)


async def test_only_letters_of_the_outage_are_sent_back(database: str) -> None:
    """This consumer's open letters for errors of the provider, in one recorded job."""
    wanted = {letter(database, error_class=one) for one in CAUSES}
    letter(database, error_class="bad_command")
    letter(database, error_class="indefinite")
    letter(database, consumer="payment-canary")
    letter(database, consumer="inventory")
    letter(database, status="DISCARDED")
    async with opened(database) as db:
        assert await ask(db) == 3
        assert await ask(db) == 0, "its own job is under way"
    ((ids, rate, by),) = query(database, JOBS)
    assert (set(ids), rate, by) == (wanted, 7, "auto-redrive")
    acts = query(
        database, "select actor, action, reason, detail -> 'fingerprints' from ops.audit_log"
    )
    assert acts == [("auto-redrive", "dead_letter.redrive", "closed", ["f"])]


async def test_a_command_is_sent_back_a_bounded_number_of_times(database: str) -> None:
    """One that died again after its last redrive stays; an operator's redrives do not count."""
    spent, once, by_hand = (str(uuid4()) for _ in range(3))
    for event_id, actor, times in (
        (spent, "auto-redrive", 2), (once, "auto-redrive", 1), (by_hand, "ada", 5),
    ):  # fmt: skip
        for _ in range(times):
            letter(database, event_id=event_id, status="REDRIVEN", settled_by=actor)
    letter(database, event_id=spent, at=NOW - timedelta(hours=1))
    wanted = {letter(database, event_id=once), letter(database, event_id=by_hand)}
    async with opened(database) as db:
        assert await ask(db) == 2
        query(database, "update ops.dead_letter_job set status = 'DONE'")
        assert await ask(db, redrives_max=1) == 1
        query(database, "update ops.dead_letter_job set status = 'DONE'")
        assert await ask(db, letters_max=1) == 1, "the spent one is oldest and keeps nobody out"
    asked = [set(ids) for ids, _, _ in query(database, JOBS + " order by created_at")]
    assert asked[0] == wanted
    assert len(asked[1]) == len(asked[2]) == 1
    assert asked[1] | asked[2] <= wanted


async def test_a_closing_asks_and_an_opening_stops(database: str) -> None:
    """CLOSED is followed by a job; a breaker that opened again before the look is not."""
    letter(database)
    settings = load_settings(payment_auto_redrive_delay_s=0.01)
    async with opened(database) as db:
        app: Any = SimpleNamespace(settings=settings, db=db, clock=SystemClock())
        service = AutoRedrive(app, "payment")
        service.changed(State.OPEN)
        await service.after_closing()
        assert query(database, JOBS) == []
        await service.start()
        try:
            service.changed(State.HALF_OPEN)
            service.changed(State.CLOSED)
            await jobs_stand(database)
        finally:
            await service.stop()


async def test_the_first_answer_after_a_start_asks(database: str) -> None:
    """A worker that was started during the outage never saw its breaker open."""
    letter(database)
    settings = load_settings(payment_auto_redrive_delay_s=0.01)
    async with opened(database) as db:
        app: Any = SimpleNamespace(settings=settings, db=db, clock=SystemClock())
        service = AutoRedrive(app, "payment")
        breaker = observed_breaker(settings, service.changed)
        async with service:
            permit = breaker.admit()
            assert permit is not None
            breaker.succeed(permit)
            await jobs_stand(database)


async def jobs_stand(dsn: str) -> None:
    async with asyncio.timeout(20):
        while not query(dsn, JOBS):
            await asyncio.sleep(0.05)
