"""Statements of `app.db.inbox` and `app.db.deadletters`. Tables: inbox, dead_letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.db import deadletters, inbox
from app.db.inbox import Status
from chaos.simulation.statements.registry import Answer, Params, expect, runs

if TYPE_CHECKING:
    from datetime import datetime

    from chaos.simulation.database import Tx

INBOX, DEAD_LETTER = "inbox", "dead_letter"
_MOVED_ON = (Status.RETRYING, Status.PARKED)


class InboxRow(NamedTuple):
    """A row of ops.inbox, by (consumer, event id)."""

    status: int
    attempt: int
    outputs: bytes
    topic: str
    partition: int
    offset: int
    at: datetime


@runs(inbox._LOOKUP)
async def lookup(tx: Tx, p: Params) -> Answer:
    """Rows of these events."""
    found = ((one, tx.get(INBOX, (p["consumer"], one))) for one in p["event_ids"])
    return [(one, row.status, row.attempt, row.outputs) for one, row in found if row is not None]


@runs(inbox._CLAIM)
async def claim(tx: Tx, p: Params) -> Answer:
    """Insert, or take over what is INTENT or moved on by an earlier delivery; all or none."""
    touched = 0
    for event_id, row in _claims(tx, p):
        key = (p["consumer"], event_id)
        if await tx.insert(INBOX, key, row):
            touched += 1
            continue
        await tx.lock(INBOX, [key])
        known = tx.get(INBOX, key)
        if known is not None and takes_over(known, row):
            tx.put(INBOX, key, row)
            touched += 1
    return expect(touched, p["rows"])


def takes_over(known: InboxRow, row: InboxRow) -> bool:
    """Whether a claim may replace the row that is there."""
    moved_on = known.status in _MOVED_ON and known.attempt < row.attempt
    return known.status == Status.INTENT or moved_on


@runs(inbox._COMPLETE)
async def complete(tx: Tx, p: Params) -> Answer:
    """Settle rows that are INTENT; all or none."""
    touched = 0
    for event_id, row in _claims(tx, p):
        key = (p["consumer"], event_id)
        if not await tx.lock(INBOX, [key]):
            continue
        known = tx.get(INBOX, key)
        if known is not None and known.status == Status.INTENT:
            changed = known._replace(status=row.status, attempt=row.attempt, outputs=row.outputs)
            tx.put(INBOX, key, changed._replace(at=tx.now))
            touched += 1
    return expect(touched, p["rows"])


@runs(inbox._UNSENT)
async def unsent(tx: Tx, p: Params) -> Answer:
    """Ticks whose outputs may be unpublished, oldest first."""
    found = [
        (row.at, key[1], row)
        for key, row in tx.rows(INBOX)
        if key[0] == p["consumer"]
        and row.status == Status.TICKED
        and row.partition in p["partitions"]
    ]
    found.sort(key=lambda item: item[:2])
    return [(event_id, row.partition, row.outputs) for _, event_id, row in found]


@runs(inbox._SENT)
async def sent(tx: Tx, p: Params) -> Answer:
    """Ticks whose outputs are published."""
    keys = await tx.lock(INBOX, [(p["consumer"], one) for one in p["event_ids"]])
    touched = 0
    for key in keys:
        row = tx.get(INBOX, key)
        if row is not None and row.status == Status.TICKED:
            tx.put(INBOX, key, row._replace(status=int(Status.DONE)))
            touched += 1
    return touched


def _claims(tx: Tx, p: Params) -> list[tuple[str, InboxRow]]:
    names = ("event_ids", "statuses", "attempts", "outputs", "topics", "partitions", "offsets")
    columns: list[Any] = list(zip(*(p[name] for name in names), strict=True))
    return [(one[0], InboxRow._make((*one[1:], tx.now))) for one in columns]


@runs(deadletters._RECORD)
async def record(tx: Tx, p: Params) -> Answer:
    """Index dead letters that are not indexed yet."""
    names = ("ids", "topics", "partitions", "offsets", "event_ids", "error_classes", "values")
    new = 0
    for letter in zip(*(p[name] for name in names), strict=True):
        new += await tx.insert(DEAD_LETTER, letter[0], letter[1:])
    return new
