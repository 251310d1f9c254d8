"""Role orchestrator: drives every order's saga, and alone writes the order's status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app import ids
from app.control.canary import Split, board
from app.db import sagas as rows
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
from app.domain.decision import Incoming, SagaEvent
from app.domain.definition import Policy
from app.domain.record import Saga, from_bytes, to_bytes
from app.errors import Poison
from app.failpoints import failpoint
from app.messages import Output, unpack
from app.observability import metrics
from app.orchestrator.emitting import Emitter
from app.orchestrator.moving import Moved, move_sagas
from app.topics import (
    INVENTORY_RESULT,
    ORDER_CANCEL,
    ORDER_CREATED,
    ORDER_OPERATE,
    ORDER_REVIEWED,
    ORDER_STATUS_CHANGED,
    PAYMENT_RESULT,
    SHIPPING_RESULT,
)
from tables import sagas

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App
    from app.settings import Settings

NAME = "orchestrator"


class Orchestrator:
    """Advances sagas by events, timeouts and re-drives; in order per order, at least once."""

    def __init__(self, settings: Settings, table: Table, split: Split) -> None:
        """`split` says which orders' charges go to the canary."""
        self._table = table
        self._emitter = Emitter(f"{settings.namespace}/{NAME}", split)
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
        moves = await move_sagas(tx, by_order, known, partitions, now, policy=self._policy)
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
                        outputs = self._emitter.outputs(tx, event, decision, now)
                        applied[id(event)] = Applied(outputs, about=_about(decision.saga))
            if body is not None:
                last = applied[id(listed[-1])]
                write = Write(sagas.NAME, listed[-1].key, body)
                applied[id(listed[-1])] = last._replace(writes=(write,))
        return [applied[id(event)] for event in events]

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
            partitions = dict.fromkeys(timers, partition)
            moves = await move_sagas(tx, timers, known, partitions, now, policy=self._policy)
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
        outputs = self._emitter.outputs(tx, timer, decision, now)
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
        outputs = self._emitter.outputs(tx, cause, again, now)
        return Ticked(event_id, key, Applied(outputs, writes, _about(saga)))


def _about(saga: Saga) -> About:
    return About(saga.state, saga.traceparent)


def _state_of(saga: Saga | None) -> str:
    return saga.state if saga is not None else "none"


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
