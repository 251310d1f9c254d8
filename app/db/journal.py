"""Runs of worker processes and the killer journal (schema ops)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.statements import statement

if TYPE_CHECKING:
    from app.db.engine import Database, Transaction


class LiveWorker(NamedTuple):
    """A worker that has given a sign of life lately."""

    worker_id: str
    role: str


class Suspect(NamedTuple):
    """A span that some incarnation was working on when it was last seen.

    `counted` is true once that incarnation is known to have ended in a way that counts.
    """

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    counted: bool


_OPEN_RUNS = statement(
    "SELECT incarnation FROM ops.worker_run WHERE worker_id = :worker_id AND ended_at IS NULL"
)
_END_RUN = statement(
    "UPDATE ops.worker_run SET ended_at = now(), reason = :reason, counted = :counted"
    " WHERE incarnation = :incarnation AND ended_at IS NULL"
)
_START_RUN = statement(
    "INSERT INTO ops.worker_run (incarnation, worker_id, role, started_at, seen_at, counted)"
    " VALUES (:incarnation, :worker_id, :role, now(), now(), false)"
    " ON CONFLICT (incarnation) DO NOTHING"
)
_SEE_RUN = statement(
    "UPDATE ops.worker_run SET seen_at = now()"
    " WHERE incarnation = :incarnation AND ended_at IS NULL"
)
_LIVE_RUNS = statement(
    "SELECT worker_id, role FROM ops.worker_run"
    " WHERE ended_at IS NULL AND seen_at > now() - make_interval(secs => :silent_s)"
    " ORDER BY role, worker_id"
)
_ARMED = statement(
    "SELECT 1 FROM ops.worker_run WHERE role = :role AND counted"
    " AND ended_at > now() - make_interval(secs => :window_s) LIMIT 1"
)
_SUSPECTS = statement(
    """
    SELECT j.topic, j.partition, j.first_offset, j.last_offset,
           coalesce(r.counted, false)
      FROM ops.killer_journal j
      LEFT JOIN ops.worker_run r ON r.incarnation = j.incarnation
     WHERE j.consumer = :consumer AND j.incarnation <> :incarnation
       AND (j.topic, j.partition) IN (
            SELECT * FROM unnest(:topics ::text[], :partitions ::int[]))
    """
)
_OPEN_SPANS = statement(
    """
    INSERT INTO ops.killer_journal
           (consumer, topic, partition, incarnation, first_offset, last_offset)
    SELECT :consumer, topic, part, :incarnation, first_offset, last_offset
      FROM unnest(:topics ::text[], :partitions ::int[], :firsts ::bigint[], :lasts ::bigint[])
           AS span(topic, part, first_offset, last_offset)
    ON CONFLICT (consumer, topic, partition, incarnation)
    DO UPDATE SET first_offset = excluded.first_offset, last_offset = excluded.last_offset
    """
)
_CLOSE_SPANS = statement(
    """
    DELETE FROM ops.killer_journal j
     USING unnest(:topics ::text[], :partitions ::int[], :lasts ::bigint[])
           AS span(topic, part, last_offset)
     WHERE j.consumer = :consumer AND j.topic = span.topic AND j.partition = span.part
       AND (j.incarnation = :incarnation OR j.last_offset <= span.last_offset)
    """
)

Spans = Mapping[tuple[str, int], tuple[int, int]]
"""{(topic, partition): (first offset, last offset)}"""


async def open_runs(tx: Transaction, worker_id: str) -> list[str]:
    """Incarnations of `worker_id` that never said how they ended."""
    return [row[0] for row in await tx.fetch(_OPEN_RUNS, worker_id=worker_id)]


async def end_run(tx: Transaction, incarnation: str, reason: str, *, counted: bool) -> None:
    """Close a run; the first reason stays."""
    await tx.execute(_END_RUN, incarnation=incarnation, reason=reason, counted=counted)


async def start_run(tx: Transaction, role: str, worker_id: str, incarnation: str) -> None:
    """Register a new run; incarnations are unique, and registering one again changes nothing."""
    await tx.execute(_START_RUN, role=role, worker_id=worker_id, incarnation=incarnation)


async def see_run(db: Database, incarnation: str) -> None:
    """The run gives a sign of life."""
    await db.execute(_SEE_RUN, incarnation=incarnation)


async def live_workers(db: Database, silent_s: float) -> list[LiveWorker]:
    """Workers of all roles that have not ended and were seen within `silent_s`, once each."""
    rows = await db.fetch(_LIVE_RUNS, silent_s=silent_s)
    return [LiveWorker(*row) for row in dict.fromkeys(rows)]


async def is_armed(tx: Transaction, role: str, window_s: float) -> bool:
    """Whether a worker of `role` ended in a way that counts within the last `window_s`."""
    return bool(await tx.fetch(_ARMED, role=role, window_s=window_s))


async def suspects(
    tx: Transaction, consumer: str, incarnation: str, tps: Sequence[tuple[str, int]]
) -> list[Suspect]:
    """Spans that other incarnations left open on these (topic, partition) pairs."""
    rows = await tx.fetch(
        _SUSPECTS,
        consumer=consumer,
        incarnation=incarnation,
        topics=[tp[0] for tp in tps],
        partitions=[tp[1] for tp in tps],
    )
    return [Suspect(*row) for row in rows]


async def open_spans(tx: Transaction, consumer: str, incarnation: str, spans: Spans) -> None:
    """Say what is about to be run, one span per partition."""
    await tx.execute(
        _OPEN_SPANS,
        commit=True,
        consumer=consumer,
        incarnation=incarnation,
        **_columns(spans),
        firsts=[span[0] for span in spans.values()],
    )


async def close_spans(tx: Transaction, consumer: str, incarnation: str, spans: Spans) -> None:
    """The spans are done: clear them, and what dead incarnations left below them."""
    await tx.execute(
        _CLOSE_SPANS, commit=True, consumer=consumer, incarnation=incarnation, **_columns(spans)
    )


def _columns(spans: Spans) -> dict[str, Any]:
    return {
        "topics": [tp[0] for tp in spans],
        "partitions": [tp[1] for tp in spans],
        "lasts": [span[1] for span in spans.values()],
    }
