"""What is forgotten, and by hand: old settled things, never what is open or under way."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.db.grants import dsn_of
from app.redrive.retention import forget
from tests.docs.test_retention import PAGE
from tests.integration.api_client import query
from tests.integration.participants import NOW, opened
from tests.integration.redrive_kit import settings
from tests.integration.test_auto_redrive import letter

pytestmark = pytest.mark.integration

OLD, NEW = NOW - timedelta(days=41), NOW - timedelta(days=39)
JOB = (
    "insert into ops.dead_letter_job (id, kind, selection, status, rate_per_s, requested_by,"
    " created_at, ended_at) values (%s, 'discard', '{}', %s, 1, 'ada', %s, %s)"
)
INBOX = (
    "insert into ops.inbox (consumer, event_id, status, attempt, outputs, topic, partition,"
    " \"offset\", at) values ('payment', %s, %s, 0, '', 't', 0, 1, now() - %s::interval)"
)


def seed(dsn: str, number: int) -> tuple[set[str], set[str]]:
    """Letters and jobs of all kinds; return those that must stay."""
    stay = {
        letter(dsn, status="OPEN", at=OLD),
        letter(dsn, status="CLAIMED", at=OLD),
        letter(dsn, status="OPEN", at=OLD, settled_at=OLD, settle_reason="refused"),
        letter(dsn, status="REDRIVEN", at=OLD, settled_at=NEW),
    }
    for status in ("REDRIVEN", "DISCARDED", "PURGED"):
        for _ in range(number):
            letter(dsn, status=status, at=OLD, settled_at=OLD)
    jobs: list[tuple[str, str, Any]] = [
        (str(uuid4()), "RUNNING", None), (str(uuid4()), "QUEUED", None), (str(uuid4()), "DONE", NEW)
    ]  # fmt: skip
    for status in ("DONE", "CANCELLED", "FAILED"):
        query(dsn, JOB, str(uuid4()), status, OLD, OLD)
    for job_id, status, ended_at in jobs:
        query(dsn, JOB, job_id, status, OLD, ended_at)
    return stay, {one[0] for one in jobs}


async def test_settled_letters_and_ended_jobs_are_forgotten(database: str) -> None:
    """Batch by batch, by the login of role dlq; with 0 nothing is."""
    letters, jobs = seed(database, 2)
    everything = query(database, "select count(*) from ops.dead_letter")
    async with opened(dsn_of(database, "dlq")) as db:
        await forget(db, settings(database, dlq_retention_days=0), NOW)
        assert query(database, "select count(*) from ops.dead_letter") == everything
        await forget(db, settings(database, dlq_retention_days=40, dlq_batch_max=2), NOW)
    assert {row[0] for row in query(database, "select id::text from ops.dead_letter")} == letters
    assert {row[0] for row in query(database, "select id::text from ops.dead_letter_job")} == jobs


def test_an_operator_may_delete_what_the_page_says(database: str) -> None:
    """Of the inbox what is old and done, unless an open letter can bring it back."""
    old, waiting, parked, new = (str(uuid4()) for _ in range(4))
    letter(database, event_id=waiting)
    for event_id, status, age in (
        (old, 0, "61 days"), (waiting, 0, "61 days"), (parked, 3, "61 days"), (new, 0, "59 days"),
    ):  # fmt: skip
        query(database, INBOX, event_id, status, age)
    (block,) = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for one in block.split(";\n"):
        if one.strip():
            query(database, one)
    kept = {row[0] for row in query(database, "select event_id::text from ops.inbox")}
    assert kept == {waiting, parked, new}
