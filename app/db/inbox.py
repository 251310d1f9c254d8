"""The inbox: what each consumer has finished, with the outputs to publish again on a repeat.

One row per (consumer, event id), written in the transaction of the effect. All statements take a
whole batch. Rows are claimed in event-id order, so two batches cannot deadlock on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.statements import counted, statement

if TYPE_CHECKING:
    from app.db.engine import Transaction


class Status(IntEnum):
    """DONE is final. INTENT: a third party may have been called. RETRYING and PARKED: the event
    moved on as a later delivery. TICKED: outputs of due work, not yet known to be published."""

    DONE = 0
    INTENT = 1
    RETRYING = 2
    PARKED = 3
    TICKED = 4


class InboxRow(NamedTuple):
    """`attempt` is the delivery number that led to this status; `outputs` are packed."""

    status: Status
    attempt: int
    outputs: bytes


class Claim(NamedTuple):
    """An inbox row to write."""

    event_id: str
    status: Status
    attempt: int
    outputs: bytes
    topic: str
    partition: int
    offset: int


_LOOKUP = statement(
    "SELECT event_id, status, attempt, outputs FROM ops.inbox"
    " WHERE consumer = :consumer AND event_id = ANY(:event_ids ::uuid[])"
)
_ROWS = """
    unnest(:event_ids ::uuid[], :statuses ::smallint[], :attempts ::int[], :outputs ::bytea[],
           :topics ::text[], :partitions ::int[], :offsets ::bigint[])
    AS claim(event_id, status, attempt, outputs, topic, part, "offset")
"""
_CLAIM = counted(
    f"""
    INSERT INTO ops.inbox AS known
           (consumer, event_id, status, attempt, outputs, topic, partition, "offset")
    SELECT :consumer, event_id, status, attempt, outputs, topic, part, "offset" FROM {_ROWS}
    ON CONFLICT (consumer, event_id) DO UPDATE
       SET status = excluded.status, attempt = excluded.attempt, outputs = excluded.outputs,
           topic = excluded.topic, partition = excluded.partition, "offset" = excluded."offset",
           at = now()
     WHERE known.status = {Status.INTENT:d}
        OR known.status IN ({Status.RETRYING:d}, {Status.PARKED:d})
           AND known.attempt < excluded.attempt
    """
)
_COMPLETE = counted(
    f"""
    UPDATE ops.inbox AS known
       SET status = claim.status, attempt = claim.attempt, outputs = claim.outputs, at = now()
      FROM {_ROWS}
     WHERE known.consumer = :consumer AND known.event_id = claim.event_id
       AND known.status = {Status.INTENT:d}
    """
)
_UNSENT = statement(
    """
    SELECT event_id, partition, outputs FROM ops.inbox
     WHERE consumer = :consumer AND ticked
       AND partition = ANY(:partitions ::int[])
     ORDER BY at
    """
)
_SENT = statement(
    f"""
    UPDATE ops.inbox SET status = {Status.DONE:d}
     WHERE consumer = :consumer AND event_id = ANY(:event_ids ::uuid[])
       AND status = {Status.TICKED:d}
    """
)
_FINISHED = statement(
    f"""
    SELECT i.consumer, i.event_id FROM ops.inbox i
      JOIN unnest(:consumers ::text[], :event_ids ::uuid[]) AS asked(consumer, event_id)
        ON i.consumer = asked.consumer AND i.event_id = asked.event_id
     WHERE i.status = {Status.DONE:d}
    """
)


async def lookup(tx: Transaction, consumer: str, event_ids: Sequence[str]) -> dict[str, InboxRow]:
    """The inbox rows of those events that have one, by event id."""
    rows = await tx.fetch(_LOOKUP, consumer=consumer, event_ids=list(event_ids))
    return {row[0]: InboxRow(Status(row[1]), row[2], row[3]) for row in rows}


async def finished(tx: Transaction, events: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those (consumer, event id) that the consumer has finished: its row is DONE."""
    if not events:
        return set()
    rows = await tx.fetch(
        _FINISHED, consumers=[one[0] for one in events], event_ids=[one[1] for one in events]
    )
    return {(row[0], row[1]) for row in rows}


async def claim(tx: Transaction, consumer: str, claims: Sequence[Claim]) -> None:
    """Write the rows and commit, in one round trip; RowsMissed when not all are ours to write.

    A row that is DONE, or moved on by the same or a later delivery, is another's: nothing is
    committed then. Waits for a concurrent claimer of the same event.
    """
    columns = _columns(claims)
    await tx.execute(_CLAIM, commit=True, consumer=consumer, rows=len(claims), **columns)


async def complete(tx: Transaction, consumer: str, claims: Sequence[Claim]) -> None:
    """Settle INTENT rows and commit, in one round trip; RowsMissed when one is not INTENT."""
    columns = _columns(claims)
    await tx.execute(_COMPLETE, commit=True, consumer=consumer, rows=len(claims), **columns)


async def unsent_ticks(
    tx: Transaction, consumer: str, partitions: Sequence[int]
) -> list[tuple[str, int, bytes]]:
    """(event id, partition, packed outputs) of ticks whose outputs may be unpublished."""
    rows = await tx.fetch(_UNSENT, consumer=consumer, partitions=list(partitions))
    return [(row[0], row[1], row[2]) for row in rows]


async def mark_ticks_sent(tx: Transaction, consumer: str, event_ids: Sequence[str]) -> None:
    """The outputs of these ticks are acknowledged by the broker."""
    await tx.execute(_SENT, commit=True, consumer=consumer, event_ids=list(event_ids))


def _columns(claims: Sequence[Claim]) -> dict[str, Any]:
    ordered = sorted(claims, key=lambda one: one.event_id)
    return {
        "event_ids": [one.event_id for one in ordered],
        "statuses": [int(one.status) for one in ordered],
        "attempts": [one.attempt for one in ordered],
        "outputs": [one.outputs for one in ordered],
        "topics": [one.topic for one in ordered],
        "partitions": [one.partition for one in ordered],
        "offsets": [one.offset for one in ordered],
    }
