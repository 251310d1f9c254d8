"""Role `probe` (lab only): numbered events through all six steps of the delivery core, twice.

Stage 1 reads `probe.in`: one effect row, state 1 in the table, the same number to `probe.out`.
Stage 2 reads that: one effect row, state 2. The rebalance ledger counts the effects from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.db.engine import Transaction, statement
from app.delivery import App, Applied, Event, Table, Write, consume, table_get
from app.ids import event_id
from app.messages import Body, emit
from app.messages.envelope import register as register_body
from app.topics import ORDER_RETENTION_S, TopicSpec
from tables import probe, probe_idempotency

if TYPE_CHECKING:
    from app.messages import Output


class ProbeIn(Body, frozen=True, kw_only=True):
    """A numbered event enters stage 1."""

    TOPICS = ("probe.in",)
    KEY = "seq"

    seq: str


class ProbeOut(Body, frozen=True, kw_only=True):
    """Stage 1 has handled a numbered event."""

    TOPICS = ("probe.out",)
    KEY = "seq"

    seq: str


PROBE_IN = TopicSpec("probe.in", "seq", (ProbeIn,), ORDER_RETENTION_S)
PROBE_OUT = TopicSpec("probe.out", "seq", (ProbeOut,), ORDER_RETENTION_S)

# No unique constraint: a doubled effect must be counted, not prevented.
_EFFECTS = statement(
    """
    INSERT INTO ops.probe_effect (stage, seq, worker, partition, "offset", had_state)
    SELECT * FROM unnest(:stages ::smallint[], :seqs ::bigint[], :workers ::text[],
                         :partitions ::int[], :offsets ::bigint[], :had_states ::boolean[])
    """
)

# A stage leaves one row, so its rows tell the state without knowing the order of writes.
_STATES = statement(
    """
    SELECT seq, max(stage), count(DISTINCT stage) FROM ops.probe_effect
     WHERE seq = ANY(:seqs ::bigint[]) GROUP BY seq
    """
)


def next_state(stage: int, old: bytes | None) -> bytes:
    """State of a number after `stage`: `<stage>:<writes>`; a repeated stage changes nothing."""
    reached, writes = (int(part) for part in old.split(b":")) if old else (0, 0)
    return old if old and reached >= stage else b"%d:%d" % (stage, writes + 1)


class ProbeHandler:
    """Input key: event number. Ordering: per number. Delivery: at least once, effects once.

    Side effects: rows of ops.probe_effect, table `probe`, topic `probe.out`.
    """

    def __init__(self, table: Table, worker_id: str) -> None:
        self._table, self._worker_id = table, worker_id

    async def apply(
        self, tx: Transaction, events: Sequence[Event], now: datetime
    ) -> Sequence[Applied]:
        """One effect row and one table entry per event; stage 1 also sends the number on."""
        states: dict[bytes, bytes] = {}
        stages = [1 if event.topic == PROBE_IN.name else 2 for event in events]
        had_states: list[bool] = []
        applied: list[Applied] = []
        for event, stage in zip(events, stages, strict=True):
            old = states.get(event.key) or table_get(self._table, event.partition, event.key)
            had_states.append(old is not None)
            states[event.key] = new = next_state(stage, old)
            outputs = (self._passed_on(event, now),) if stage == 1 else ()
            applied.append(Applied(outputs, (Write(self._table.name, event.key, new),)))
        tx.later(
            _EFFECTS,
            stages=stages,
            seqs=[int(event.body.seq) for event in events],
            workers=[self._worker_id] * len(events),
            partitions=[event.partition for event in events],
            offsets=[event.offset for event in events],
            had_states=had_states,
        )
        return applied

    async def restore(self, tx: Transaction, events: Sequence[Event]) -> list[tuple[Write, ...]]:
        """The state of each event's number as its effect rows tell it; nothing without rows."""
        seqs = [int(event.body.seq) for event in events]
        rows = await tx.fetch(_STATES, seqs=seqs)
        states = {seq: b"%d:%d" % (stage, stages) for seq, stage, stages in rows}
        return [
            (Write(self._table.name, event.key, states[seq]),) if seq in states else ()
            for event, seq in zip(events, seqs, strict=True)
        ]

    def _passed_on(self, event: Event, now: datetime) -> Output:
        return emit(
            event,
            PROBE_OUT,
            ProbeOut(seq=event.body.seq),
            event_id=event_id(event.event_id, "probe.out"),
            now=now,
            source="/probe",
        )


def register(app: App) -> None:
    """Declare the probe's tables and its agent."""
    for body in (ProbeIn, ProbeOut):
        register_body(body, body.TOPICS)
    table = probe.declare(app)
    consume(
        app,
        name="probe",
        topics=(PROBE_IN, PROBE_OUT),
        handler=ProbeHandler(table, app.settings.worker_id),
        idempotency=probe_idempotency.declare(app),
        tables=(table,),
    )
