"""Role orchestrator: drives every order's saga, and alone writes the order's status."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from app import ids
from app.control.canary import Split, board
from app.db import sagas as rows
from app.db.sagas import HistoryEntry, SagaWrite
from app.delivery import (
    About,
    Applied,
    DueHeap,
    Event,
    Table,
    Ticked,
    Write,
    consume,
    table_get,
    table_items,
)
from app.domain import saga as domain
from app.domain.batch import Move, decide_in_order
from app.domain.decision import Incoming, SagaEvent, status_changes
from app.domain.definition import Policy
from app.domain.operations import OPERATED
from app.domain.record import Saga, from_bytes, to_bytes
from app.errors import Poison, TransientDatabase
from app.failpoints import failpoint
from app.messages import Cause, Output, emit, unpack
from app.messages.deadletter import redriven
from app.observability import exemplars, metrics
from app.topics import (
    CATALOGUE,
    INVENTORY_RESULT,
    ORDER_CANCEL,
    ORDER_CREATED,
    ORDER_OPERATE,
    ORDER_REVIEWED,
    ORDER_STATUS_CHANGED,
    PAYMENT_REQUESTED,
    PAYMENT_REQUESTED_CANARY,
    PAYMENT_RESULT,
    SHIPPING_RESULT,
    TopicSpec,
)
from tables import sagas

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App
    from app.settings import Settings

NAME = "orchestrator"
RELOADS_MAX = 3
"""Guarded updates of one batch that may miss before the whole batch is repeated."""


class Moved(NamedTuple):
    """A move and the bytes of its record, None while nothing is recorded."""

    move: Move
    body: bytes | None


class Orchestrator:
    """Advances sagas by events, timeouts and re-drives; in order per order, at least once."""

    def __init__(self, settings: Settings, table: Table, split: Split) -> None:
        """`split` says which orders' charges go to the canary."""
        self._table = table
        self._split = split
        self._source = f"{settings.namespace}/{NAME}"
        self._policy = Policy(
            step_deadline_s=settings.step_deadline_s,
            redrives_max=settings.redrives_max,
            compensation_attempts_max=settings.compensation_attempts_max,
        )
        self._retention = timedelta(seconds=settings.table_entry_retention_s)
        self._idle_after = timedelta(seconds=settings.saga_idle_redrive_s)
        self._due_max = max(1, int(settings.redrive_rate_per_s * settings.tick_interval_s))
        self._heaps: dict[int, DueHeap] = {}
        self._running: dict[int, dict[bytes, Saga]] = {}
        self._taken: dict[int, dict[bytes, datetime]] = {}
        self._idle_look: dict[int, datetime] = {}
        self._doubted: dict[int, set[bytes]] = {}

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Decide each event on its order's record; one guarded write per order."""
        by_order: dict[str, list[Event]] = {}
        for event in events:
            by_order.setdefault(event.body.order_id, []).append(event)
        known = {
            order_id: self._working_copy(listed[0].partition, listed[0].key)
            for order_id, listed in by_order.items()
        }
        partitions = {one: listed[0].partition for one, listed in by_order.items()}
        moves = await self._move(tx, by_order, known, partitions, now)
        return self._results(tx, events, by_order, moves, now)

    async def restore(self, tx: Transaction, events: Sequence[Event]) -> list[tuple[Write, ...]]:
        """Working copies of the orders of `events`, as PostgreSQL has them."""
        await failpoint("orchestrator.before_restore")
        stored = await rows.load(tx, list({event.body.order_id for event in events}))
        return [
            (Write(sagas.NAME, event.key, stored[event.body.order_id].body),)
            if event.body.order_id in stored
            else ()
            for event in events
        ]

    def is_unsure(self, event: Event, *, again: bool) -> bool:
        """Whether the order was there before this assignment and has not come up since."""
        if event.key in self._doubted.get(event.partition, ()):
            return True
        if event.topic == ORDER_CREATED.name and not again:
            return False
        if event.key in self._running.get(event.partition, ()):
            return False
        return table_get(self._table, event.partition, event.key) is None

    async def unpublished(
        self, tx: Transaction, events: Sequence[Event]
    ) -> list[tuple[Output, ...]]:
        """The changes of status of these orders; commands are commutative, their order is free."""
        stored = await rows.put_out(tx, NAME, [event.body.order_id for event in events])
        return [
            tuple(
                output
                for packed in stored.get(event.body.order_id, ())
                for output in unpack(packed)
                if output.topic == ORDER_STATUS_CHANGED.name
            )
            for event in events
        ]

    def sure(self, events: Sequence[Event]) -> None:
        """From now on this worker publishes what these orders put out, in order."""
        for event in events:
            self._doubted.get(event.partition, set()).discard(event.key)

    async def _move(
        self,
        tx: Transaction,
        by_order: Mapping[str, Sequence[SagaEvent]],
        known: dict[str, Saga | None],
        partitions: Mapping[str, int],
        now: datetime,
    ) -> dict[str, Moved]:
        """Decide and write until every order's version was as expected.

        Whatever changed nothing, or missed its version, was perhaps decided on a stale copy: it is
        decided again on PostgreSQL's record.
        """
        done: dict[str, Moved] = {}
        authority: set[str] = set()
        for _ in range(RELOADS_MAX):
            moves = {one: self._decide(known[one], by_order[one], now) for one in known}
            doubtful = [one for one in moves if moves[one].doubtful and one not in authority]
            if doubtful:
                known.update(await self._load(tx, doubtful))
                authority.update(doubtful)
                moves.update(
                    {one: self._decide(known[one], by_order[one], now) for one in doubtful}
                )
            moved = {one: Moved(move, _packed(move.saga)) for one, move in moves.items()}
            writes = [_write(m, partitions[one]) for one, m in moved.items() if m.move.changed]
            await failpoint("orchestrator.before_write")
            hit = await rows.write(tx, writes, now)
            missed = [one.order_id for one in writes if one.order_id not in hit]
            done.update({one: m for one, m in moved.items() if one not in missed})
            if not missed:
                return done
            metrics.SAGA_STALE_TABLE.child().inc(len(missed))
            known = await self._load(tx, missed)
            authority.update(missed)
        raise TransientDatabase("sagas of this batch kept changing under it")

    def _decide(self, saga: Saga | None, events: Sequence[SagaEvent], now: datetime) -> Move:
        jitters = [random.random() for _ in events]
        return decide_in_order(saga, events, now, policy=self._policy, jitters=jitters)

    async def _load(self, tx: Transaction, order_ids: Sequence[str]) -> dict[str, Saga | None]:
        await failpoint("orchestrator.before_reload")
        stored = await rows.load(tx, order_ids)
        return {one: from_bytes(stored[one].body) if one in stored else None for one in order_ids}

    def _working_copy(self, partition: int, key: bytes) -> Saga | None:
        """The table's record; of a saga that is not settled it is in memory too."""
        running = self._running.get(partition, {}).get(key)
        if running is not None:
            return running
        raw = table_get(self._table, partition, key)
        return None if raw is None else from_bytes(raw)

    def _results(
        self,
        tx: Transaction,
        events: Sequence[Event],
        by_order: Mapping[str, Sequence[Event]],
        moves: Mapping[str, Moved],
        now: datetime,
    ) -> list[Applied]:
        applied: dict[int, Applied] = {}
        for order_id, listed in by_order.items():
            move, body = moves[order_id]
            for event, decision in zip(listed, move.decisions, strict=True):
                match decision:
                    case domain.Illegal(reason):
                        if len(events) == 1 and not tx.guessing:  # else it is tried again, alone
                            metrics.SAGA_ILLEGAL.child(_state_of(move.saga)).inc()
                        raise Poison("illegal_transition", reason)
                    case domain.Ignored(reason):
                        tx.after_commit(metrics.SAGA_IGNORED.child(reason).inc)
                        applied[id(event)] = Applied()
                    case domain.Applied():
                        outputs = self._outputs(tx, event, decision, now)
                        applied[id(event)] = Applied(outputs, about=_about(decision.saga))
            if body is not None:
                last = applied[id(listed[-1])]
                write = Write(sagas.NAME, listed[-1].key, body)
                applied[id(listed[-1])] = last._replace(writes=(write,))
        return [applied[id(event)] for event in events]

    def _outputs(
        self, tx: Transaction, event: SagaEvent, decision: domain.Applied, now: datetime
    ) -> tuple[Output, ...]:
        """Commands under their own ids, then what the order's status became.

        A command that is sent again says so: its participant may have dead-lettered it, and must
        then try anew and not repeat that it failed.
        """
        saga = decision.saga
        cause = Cause(
            event.event_id,
            saga.correlation_id,
            event.traceparent or saga.traceparent,
            event.tracestate,
        )
        outputs = [
            emit(
                cause,
                self._topic_of(command.topic, saga.order_id),
                command.body,
                event_id=command.command_id,
                now=now,
                source=self._source,
            )
            for command in decision.commands
        ]
        if saga.redrives:
            outputs = [redriven(output, saga.redrives) for output in outputs]
        for number, body in enumerate(status_changes(decision)):
            identity = ids.event_id(event.event_id, f"order.status_changed:{number}")
            outputs.append(
                emit(
                    cause,
                    ORDER_STATUS_CHANGED,
                    body,
                    event_id=identity,
                    now=now,
                    source=self._source,
                )
            )
        tx.after_commit(lambda: _count(decision, now, cause.traceparent))
        return tuple(outputs)

    def _topic_of(self, name: str, order_id: str) -> TopicSpec:
        """A charge goes to the order's arm as it is now: a re-drive after a rollback to stable."""
        if name == PAYMENT_REQUESTED.name and self._split.is_canary(order_id):
            return PAYMENT_REQUESTED_CANARY
        return CATALOGUE[name]

    def recovered(self, partitions: Sequence[int]) -> None:
        """Rebuild the due heaps and the running sagas from the recovered table; doubt them all."""
        self._running = {one: {} for one in partitions}
        self._doubted = {one: set() for one in partitions}
        self._heaps = {one: DueHeap(self._entries(one)) for one in partitions}
        self._taken = {one: {} for one in partitions}
        self._idle_look = {}

    def _entries(self, partition: int) -> Iterable[tuple[datetime, bytes]]:
        for key, value in table_items(self._table, partition):
            saga = from_bytes(value)
            self._doubted[partition].add(key)
            if not saga.settled:
                self._running[partition][key] = saga
            due = self._wake_at(saga)
            if due is not None:
                yield due, key

    def _wake_at(self, saga: Saga) -> datetime | None:
        """When the working copy needs a look: its timer, or its leaving the table."""
        if saga.settled and saga.updated_at is not None:
            return saga.updated_at + self._retention
        return domain.next_due(saga)

    def written(self, partition: int, writes: Sequence[Write]) -> None:
        """Keep the due heap and the running sagas in step with the table."""
        heap = self._heaps.get(partition)
        if heap is None:
            return
        running, taken = self._running[partition], self._taken[partition]
        for write in writes:
            taken.pop(write.key, None)
            if write.value is None:
                self._doubted[partition].discard(write.key)
            saga = None if write.value is None else from_bytes(write.value)
            if saga is None or saga.settled:
                running.pop(write.key, None)
            else:
                running[write.key] = saga
            heap.push(write.key, None if saga is None else self._wake_at(saga))

    async def tick(self, tx: Transaction, partition: int, now: datetime) -> list[Ticked]:
        """Timers that are due, settled sagas that leave the table, and idle sagas."""
        heap, taken = self._heaps[partition], self._taken[partition]
        for key, at in taken.items():
            heap.push(key, at)  # an earlier try of this tick was rolled back
        keys = heap.pop_due(now, self._due_max)
        self._taken[partition] = dict.fromkeys(keys, now)
        ticked: list[Ticked] = []
        timers: dict[str, list[SagaEvent]] = {}
        known: dict[str, Saga | None] = {}
        for key in keys:
            saga = self._working_copy(partition, key)
            if saga is None or saga.settled:
                ticked.append(Ticked("", key, Applied((), (Write(sagas.NAME, key, None),))))
            elif saga.due is not None:
                timers[saga.order_id], known[saga.order_id] = [domain.timeout(saga)], saga
        if timers:
            moves = await self._move(tx, timers, known, dict.fromkeys(timers, partition), now)
            ticked += [self._fired(tx, one, timers[one][0], moves[one], now) for one in timers]
        return ticked + await self._idle(tx, partition, now)

    def _fired(
        self, tx: Transaction, order_id: str, timer: SagaEvent, moved: Moved, now: datetime
    ) -> Ticked:
        key, decision = order_id.encode(), moved.move.decisions[0]
        writes = (Write(sagas.NAME, key, moved.body),)
        if not isinstance(decision, domain.Applied):
            return Ticked("", key, Applied((), writes))
        for command in decision.commands:
            tx.after_commit(metrics.SAGA_REDRIVES.child(command.topic, "timeout").inc)
        outputs = self._outputs(tx, timer, decision, now)
        return Ticked(timer.event_id, key, Applied(outputs, writes, _about(decision.saga)))

    async def _idle(self, tx: Transaction, partition: int, now: datetime) -> list[Ticked]:
        """Re-drive from PostgreSQL what has not moved for long, whatever the table says."""
        if now < self._idle_look.get(partition, now):
            return []
        stored = await rows.idle(tx, partition, now - self._idle_after, self._due_max)
        if len(stored) < self._due_max:
            self._idle_look[partition] = now + self._idle_after / 2
        if stored:
            rows.touch(tx, [one.order_id for one in stored], now)
            await failpoint("orchestrator.after_idle")
        return [self._redriven(tx, from_bytes(one.body), now) for one in stored]

    def _redriven(self, tx: Transaction, saga: Saga, now: datetime) -> Ticked:
        key = saga.order_id.encode()
        writes = (Write(sagas.NAME, key, to_bytes(saga)),)
        commands = domain.redrive(saga, now, policy=self._policy)
        if not commands:
            return Ticked("", key, Applied((), writes))
        event_id = ids.event_id(saga.order_id, f"idle:{saga.version}:{now.isoformat()}")
        cause = Incoming(event_id, None, saga.correlation_id, saga.traceparent)
        again = domain.Applied(saga, commands, ())
        for command in commands:
            tx.after_commit(metrics.SAGA_REDRIVES.child(command.topic, "idle").inc)
        outputs = self._outputs(tx, cause, again, now)
        return Ticked(event_id, key, Applied(outputs, writes, _about(saga)))


def _about(saga: Saga) -> About:
    return About(saga.state, saga.traceparent)


def _packed(saga: Saga | None) -> bytes | None:
    return None if saga is None else to_bytes(saga)


def _write(moved: Moved, partition: int) -> SagaWrite:
    move, body = moved
    saga = move.saga
    assert saga is not None, "only changed moves are written"
    assert body is not None
    return SagaWrite(
        order_id=saga.order_id,
        partition=partition,
        expected=move.expected,
        version=saga.version,
        state=saga.state,
        reason=saga.reason,
        terminal=saga.settled,
        body=body,
        next_due=saga.due,
        history=[
            HistoryEntry(line.event, line.target, line.reason, line.cause_id, line.at)
            for line in move.transitions
        ],
    )


def _state_of(saga: Saga | None) -> str:
    return saga.state if saga is not None else "none"


def _count(decision: domain.Applied, now: datetime, traceparent: str) -> None:
    saga = decision.saga
    if saga.version == 1:
        metrics.SAGA_STARTED.child().inc()
    for line in decision.transitions:
        if line.event in OPERATED:
            metrics.SAGA_OPERATIONS.child(line.event).inc()
        if line.source is line.target:
            continue
        if line.source is not None:
            metrics.SAGA_TRANSITIONS.child(line.source, line.target).inc()
        if saga.final and line.target is saga.state:
            metrics.SAGA_FINISHED.child(saga.state, saga.reason).inc()
            if saga.started_at is not None and line.source is not None:
                lasted_s = (now - saga.started_at).total_seconds()
                trace = exemplars.of(traceparent)
                metrics.SAGA_SECONDS.child(saga.state).observe(max(0.0, lasted_s), trace)


def register(app: App) -> None:
    """Declare the agent, its table and its view of the canary's configuration."""
    table = sagas.declare(app)
    split = Split()
    app.service(board(app.settings, split, app.clock))
    consume(
        app,
        name=NAME,
        topics=(
            ORDER_CREATED,
            PAYMENT_RESULT,
            INVENTORY_RESULT,
            SHIPPING_RESULT,
            ORDER_REVIEWED,
            ORDER_CANCEL,
            ORDER_OPERATE,
        ),
        handler=Orchestrator(app.settings, table, split),
        tables=(table,),
    )
