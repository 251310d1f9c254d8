"""The step: one batch from raw bytes to a moved watermark.

  1 decode raw bytes                     4 write the tables, changelog acknowledged first
  2 look up what is finished (table)     5 send the outputs, every acknowledgement awaited
  3 one PostgreSQL transaction           6 move the watermark

State goes before outputs, so a reply never meets a state that does not know the question. A crash
anywhere repeats the batch; inbox rows and stored outputs make the repeat harmless.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.structs import ConsumerRecord

from app.delivery.batch import BatchMessage
from app.delivery.calls import CallingEffects
from app.delivery.decoding import bury, decode_records, raw_events
from app.delivery.deduplicate import first_deliveries
from app.delivery.effects import Effects, Finished
from app.delivery.events import (
    CallingHandler,
    DueHandler,
    Event,
    SelectiveHandler,
    TableObserver,
    Write,
)
from app.delivery.flood import FloodGate
from app.delivery.idempotency import IdempotencyTable
from app.delivery.killer import Group
from app.delivery.outputs import Outputs
from app.delivery.patience import Patience
from app.delivery.spans import Spans, Times
from app.delivery.state import BatchState, StateTracker
from app.delivery.tables import Table, TableWrites
from app.errors import Poison
from app.failpoints import failpoint
from app.messages import Barrier
from app.observability import exemplars, metrics
from app.observability.tracing import now_ns

if TYPE_CHECKING:
    from app.delivery.app import App


class ConsumerSpec(NamedTuple):
    """What `consume` was told: the consumer's name, its topics in order of precedence within a
    batch, its handler and its tables by name."""

    name: str
    topics: tuple[str, ...]
    handler: Any
    idempotency: Table | None
    tables: dict[str, Table]
    raw: bool = False
    known_by: Callable[[ConsumerRecord], str] | None = None


class Step:
    """Runs the six steps for one consumer; one step at a time."""

    def __init__(self, app: App, spec: ConsumerSpec) -> None:
        self._app = app
        self._spec = spec
        self.state = StateTracker()
        self.patience = Patience(app, spec.name, self.state)
        self.flood = FloodGate(app, spec.name, self.state)
        effects = CallingEffects if isinstance(spec.handler, CallingHandler) else Effects
        self._effects = effects(app, spec.name, spec.handler, self.patience, self.flood)
        self.spans = Spans(app.settings, spec.name)
        self._due = spec.handler if isinstance(spec.handler, DueHandler) else None
        self._selective = spec.handler if isinstance(spec.handler, SelectiveHandler) else None
        self._observer = spec.handler if isinstance(spec.handler, TableObserver) else None
        others = {table for table in spec.tables.values() if table is not spec.idempotency}
        self._stateful = bool(others)
        self._exemplar: dict[str, str] | None = None
        self._precedence = {topic: rank for rank, topic in enumerate(spec.topics)}
        self.idempotency = (
            IdempotencyTable(app, spec.idempotency) if spec.idempotency is not None else None
        )

    async def run(self, message: BatchMessage) -> None:
        """Process one poll; on return everything is acknowledged and the watermark moved.

        Raises Abandoned when a revocation ended a held or waiting step.
        """
        self.state.enter(BatchState.WORKING)
        await self.flood.begin_step(self.patience.pause)
        await failpoint("delivery.before_step")
        by_tp = message.value
        oldest_s = min(listed[0].timestamp for listed in by_tp.values()) / 1000
        age_s = self._app.clock.now().timestamp() - oldest_s
        metrics.RECORD_AGE.child(self._spec.name).observe(max(0.0, age_s))
        metrics.BATCH_RECORDS.child(self._spec.name).observe(sum(map(len, by_tp.values())))
        for tp, listed in by_tp.items():
            metrics.RECORDS_READ.child(self._spec.name, tp.topic).inc(len(listed))
        ordered = sorted(by_tp, key=lambda tp: (self._precedence[tp.topic], tp.partition))
        records = [record for tp in ordered for record in by_tp[tp]]
        for group in await self._app.killer.plan(self._spec.name, records):
            if self._due is None or group.killer is not None:
                await self._run_group(group)
            else:
                await self._run_when_due(self._due, group)
        await failpoint("delivery.after_outputs")
        self._app.consumer.finish(message)
        await failpoint("delivery.after_watermark")

    async def _run_group(self, group: Group) -> None:
        async with self._app.killer.watch(self._spec.name, group):
            if group.killer is not None:
                began_ns = now_ns()
                letters = self._bury_killer(group.records)
                await self._publish_letters(letters)
                self.spans.letters(letters, Times(began_ns, began_ns, now_ns()))
            else:
                await self._run_records(group.records)

    async def _publish_letters(self, letters: Sequence[Finished]) -> None:
        await self._admit(letters)
        await self.publish(letters)

    async def _admit(self, letters: Sequence[Finished]) -> None:
        """Hold before a dead letter too many; these are known by their records' positions."""
        await self.flood.admit_all([one.event_id for one in letters], self.patience.pause)

    async def _run_when_due(self, handler: DueHandler, group: Group) -> None:
        """Run records as their time comes; the rest waits, without a transaction.

        What waits is not in the killer journal: a record is not to blame for a worker that ends
        while nothing is done with it.
        """
        waiting = sorted(
            ((handler.due_at(event), event) for event in raw_events(group.records)), key=_due_order
        )
        while waiting:
            now = self._app.clock.now()
            due = [event.record for due_at, event in waiting if due_at is None or due_at <= now]
            if due:
                self.state.enter(BatchState.WORKING)
                await self._run_group(Group(due))
                waiting = waiting[len(due) :]
                continue
            self.state.enter(BatchState.WAITING)
            await failpoint("delivery.while_waiting")
            first = waiting[0][0]
            assert first is not None, "an event without a time is due at once"
            await self.patience.pause((first - now).total_seconds())

    async def _run_records(self, records: Sequence[ConsumerRecord]) -> None:
        if self._app.taps.incoming:
            records = await self._app.taps.on_read(self._spec.name, records)
        began, began_ns = perf_counter(), now_ns()
        now = self._app.clock.now()
        events: list[Event]
        finished: list[Finished]
        if self._spec.raw:
            events, finished = raw_events(records, self._spec.known_by), []
        else:
            events, finished = decode_records(records, role=self._spec.name, now=now)
        if finished:
            await self._admit(finished)
        self._exemplar = exemplars.first_of(event.traceparent for event in events)
        events, repeated = first_deliveries(events)
        if repeated:
            metrics.DUPLICATES.child(self._spec.name, "batch").inc(repeated)
        self._observe("decode", began)
        await self._finish(events, finished, began_ns)

    async def _finish(
        self, events: Sequence[Event], finished: list[Finished], began_ns: int
    ) -> None:
        """Steps 2 to 5 for decoded events; `finished` are dead letters of step 1.

        Barriers come last: their inbox rows say that all else here is done and acknowledged.
        """
        barriers = [event for event in events if event.type == Barrier.TYPE]
        fresh = [event for event in events if event.type != Barrier.TYPE] if barriers else events
        letters = finished
        if self._selective is not None:
            fresh = [event for event in fresh if self._selective.concerns(event)]
        if self.idempotency is not None:
            fresh, seen = self.idempotency.split(fresh)
            if seen:
                metrics.DUPLICATES.child(self._spec.name, "table").inc(len(seen))
            finished = finished + seen
        began = perf_counter()
        applied = await self._effects.apply(fresh)
        self._observe("transaction", began)
        if self.idempotency is not None:
            applied = [self.idempotency.remember(one, self._app.clock.now()) for one in applied]
        sent_ns = now_ns()
        await self.publish(finished + applied)
        times = Times(began_ns, sent_ns, now_ns())
        self.spans.letters(letters, times)
        self.spans.batch(events, finished[len(letters) :] + applied, times)
        if barriers:
            await self._effects.pass_barriers(barriers)

    async def publish(self, finished: Sequence[Finished]) -> None:
        """Steps 4 and 5: tables and outputs, all acknowledged before it returns.

        State goes before outputs. An idempotency table is no state: what it says is in the inbox
        too, so its changelog travels in the same requests as the outputs.
        """
        began = perf_counter()
        observed, writes = self._table_writes(finished)
        outputs = Outputs(self._app.batch_producer)
        await writes.add_to(outputs)
        if writes and self._stateful:
            await self._flush_tables(outputs, writes, observed)
            writes, observed = TableWrites(()), {}
            self._observe("tables", began)
            began = perf_counter()
        count = await self._add_outputs(outputs, finished)
        if count or writes:
            await self._flush_tables(outputs, writes, observed)
            metrics.OUTPUTS.child(self._spec.name).inc(count)
        self._observe("outputs", began)
        self.state.restart()

    async def _add_outputs(self, outputs: Outputs, finished: Iterable[Finished]) -> int:
        count, taps = 0, self._app.taps
        for one in finished:
            for out in one.outputs:
                partition = out.partition
                if partition is None and out.key == one.key:
                    partition = one.partition
                for sent in await taps.on_send(out) if taps.outgoing else (out,):
                    await outputs.add(sent.topic, partition, sent.key, sent.value, sent.headers)
                count += 1
        return count

    async def _flush_tables(
        self, outputs: Outputs, writes: TableWrites, observed: Mapping[int, Sequence[Write]]
    ) -> None:
        """Have everything acknowledged, then bring the stores up to date."""
        await self._app.lease()
        await failpoint("delivery.before_flush")
        acknowledged = await outputs.flush()
        if not writes:
            return
        await failpoint("delivery.after_changelog")
        writes.apply(acknowledged)
        await failpoint("delivery.after_tables")
        if self._observer is not None:
            for partition, listed in observed.items():
                self._observer.written(partition, listed)

    def _table_writes(
        self, finished: Iterable[Finished]
    ) -> tuple[dict[int, list[Write]], TableWrites]:
        """All writes by partition, and coalesced per key (the last one wins)."""
        changes: dict[str, dict[int, dict[bytes, bytes | None]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        observed: dict[int, list[Write]] = defaultdict(list)
        for one in finished:
            for write in one.writes:
                changes[write.table][one.partition][write.key] = write.value
                observed[one.partition].append(write)
        listed = [(self._spec.tables[name], by_p) for name, by_p in changes.items()]
        return observed, TableWrites(listed)

    def _bury_killer(self, records: Sequence[ConsumerRecord]) -> list[Finished]:
        now = self._app.clock.now()
        error = Poison("killed_worker", "it ended its worker process too often")
        return [bury(record, error, role=self._spec.name, now=now) for record in records]

    def _observe(self, phase: str, began: float) -> None:
        seconds = perf_counter() - began
        metrics.STEP_SECONDS.child(self._spec.name, phase).observe(seconds, self._exemplar)


def _due_order(item: tuple[datetime | None, Event]) -> tuple[bool, float, int, int]:
    due_at, event = item
    when = due_at.timestamp() if due_at is not None else 0.0
    return due_at is not None, when, event.partition, event.offset
