"""Ticks: the only place where time alone causes effects.

About once a second and partition the core runs the handler's due work as a step of its own: lease,
transaction, tables, outputs. A tick waits until the partition's inputs are read to the end seen
when it became due, so a reply that was already in the log always beats its timeout.

A tick has no input record to be repeated from. Its outputs are therefore stored in an inbox row
with status TICKED and set to DONE only after they were acknowledged; whoever owns the partition
next publishes what a dead worker left in TICKED.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
from faust.types import TP

from app.db import inbox
from app.db.inbox import Claim, Status
from app.delivery.effects import Finished
from app.delivery.events import TickHandler
from app.delivery.spans import Times
from app.errors import DatabaseOutage
from app.failpoints import failpoint
from app.messages import pack, unpack
from app.messages.envelope import Output
from app.observability.tracing import now_ns

if TYPE_CHECKING:
    from app.delivery.app import App
    from app.delivery.step import Step

TICK_SOURCE = "tick"


class DueHeap:
    """Keys by due time, one entry a key: pushing a key again replaces its time."""

    def __init__(self, entries: Iterable[tuple[datetime, bytes]] = ()) -> None:
        self._due: dict[bytes, datetime] = {key: at for at, key in entries}
        self._heap = [(at, key) for key, at in self._due.items()]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._due)

    def push(self, key: bytes, at: datetime | None) -> None:
        """Set when `key` is due; None takes it out."""
        if at is None:
            self._due.pop(key, None)
        elif self._due.get(key) != at:
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))

    def pop_due(self, now: datetime, limit: int) -> list[bytes]:
        """Take out at most `limit` keys that are due, earliest first."""
        taken: list[bytes] = []
        while self._heap and len(taken) < limit:
            at, key = self._heap[0]
            if self._due.get(key) != at:
                heapq.heappop(self._heap)  # replaced or removed since it was pushed
            elif at <= now:
                heapq.heappop(self._heap)
                del self._due[key]
                taken.append(key)
            else:
                break
        return taken


class TickClock:
    """When each partition's next tick is due and what must be read before: pure book-keeping."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next: dict[int, float] = {}
        self._ends: dict[int, dict[TP, int | None]] = {}

    def restart(self, partitions: Iterable[int], now_s: float) -> None:
        """A new assignment: every partition's first tick is due one interval from now."""
        self._next = dict.fromkeys(partitions, now_s + self._interval_s)
        self._ends = {}

    def ready(
        self,
        now_s: float,
        ends: dict[TP, int | None],
        done: dict[TP, int],
    ) -> list[int]:
        """Partitions whose tick may run: due, and read to the end seen when it became due.

        `ends` and `done` are the high watermark (None: not known yet) and our watermark of every
        input partition.
        """
        runnable = []
        for partition, due_s in self._next.items():
            if now_s < due_s:
                continue
            seen = self._ends.setdefault(partition, {})
            for tp, end in ends.items():
                if tp.partition == partition and seen.get(tp) is None:
                    seen[tp] = end
            if all(end is not None and done.get(tp, 0) >= end for tp, end in seen.items()):
                runnable.append(partition)
        return runnable

    def ran(self, partition: int, now_s: float) -> None:
        """A tick ran: the next is due one interval later."""
        self._next[partition] = now_s + self._interval_s
        self._ends.pop(partition, None)


class Ticker:
    """Runs the ticks of one consumer; never beside one of its batches."""

    def __init__(self, app: App, name: str, step: Step, handler: TickHandler | None) -> None:
        self._app = app
        self._name = name
        self._step = step
        self._handler = handler
        self._clock = TickClock(app.settings.tick_interval_s)
        self._in_doubt: set[int] = set()

    async def recovered(self, partitions: Sequence[int]) -> None:
        """Tables are recovered: rebuild due work, publish what a dead worker left in TICKED."""
        if self._step.idempotency is not None:
            self._step.idempotency.recovered(partitions)
        self._clock.restart(partitions, monotonic())
        self._in_doubt.clear()
        if self._handler is None:
            return
        self._handler.recovered(partitions)
        left = await self._step.patience.run(lambda: self._unsent(partitions))
        if left:
            await failpoint("delivery.tick_recovered")
            await self._publish(left)

    async def run_due(self, topics: Sequence[str]) -> None:
        """Run every tick that may run now."""
        consumer = self._app.consumer
        done = {tp: at for tp, at in consumer.positions.done.items() if tp.topic in topics}
        ends = {tp: consumer.highwater(tp) for tp in done}
        for partition in self._clock.ready(monotonic(), ends, done):
            await self._run(partition)
            self._clock.ran(partition, monotonic())

    async def _run(self, partition: int) -> None:
        now = self._app.clock.now()
        began_ns = now_ns()
        finished: list[Finished] = []
        if self._handler is not None:
            finished = await self._step.patience.run(lambda: self._transact(partition, now))
            finished = await self._unanswered(partition, finished) + finished
        table = self._step.idempotency
        expired = table.expired(partition, now) if table is not None else ()
        if expired:
            await self._step.publish([Finished(partition, None, "", (), expired, done=False)])
        if finished:
            sent_ns = now_ns()
            await self._publish(finished)
            self._step.spans.ticks(finished, Times(began_ns, sent_ns, now_ns()))

    async def _transact(self, partition: int, now: datetime) -> list[Finished]:
        assert self._handler is not None
        try:
            return await self._tick(self._handler, partition, now)
        except DatabaseOutage:
            self._in_doubt.add(partition)
            raise

    async def _tick(self, handler: TickHandler, partition: int, now: datetime) -> list[Finished]:
        async with self._app.db.transaction() as tx:
            ticked = await handler.tick(tx, partition, now)
            if not ticked:
                return []
            claims = [
                Claim(
                    one.event_id,
                    Status.TICKED,
                    0,
                    pack(one.applied.outputs),
                    TICK_SOURCE,
                    partition,
                    0,
                )
                for one in ticked
                if one.event_id
            ]
            await failpoint("delivery.tick_before_commit")
            if claims:
                await inbox.claim(tx, self._name, claims)
        await failpoint("delivery.tick_after_commit")
        return [
            Finished(partition, one.key, one.event_id, *one.applied[:2], about=one.applied.about)
            for one in ticked
        ]

    async def _unanswered(self, partition: int, finished: Sequence[Finished]) -> list[Finished]:
        """What an attempt of this tick committed without hearing so: no later one does it again.

        Red without it: tests/delivery/test_tick_in_doubt.py; the simulation found it.
        """
        if partition not in self._in_doubt:
            return []
        left = await self._step.patience.run(lambda: self._unsent([partition]))
        self._in_doubt.discard(partition)
        known = {one.event_id for one in finished}
        return [one for one in left if one.event_id not in known]

    async def _unsent(self, partitions: Sequence[int]) -> list[Finished]:
        async with self._app.db.transaction() as tx:
            rows = await inbox.unsent_ticks(tx, self._name, partitions)
        return [
            Finished(partition, None, event_id, [_pinned(out, partition) for out in unpack(packed)])
            for event_id, partition, packed in rows
        ]

    async def _publish(self, finished: Sequence[Finished]) -> None:
        await self._step.publish(finished)
        ids = [one.event_id for one in finished if one.event_id]
        if ids:
            await failpoint("delivery.tick_after_publish")
            await self._step.patience.run(lambda: self._mark_sent(ids))

    async def _mark_sent(self, event_ids: Sequence[str]) -> None:
        async with self._app.db.transaction() as tx:
            await inbox.mark_ticks_sent(tx, self._name, event_ids)


def _pinned(output: Output, partition: int) -> Output:
    """Give an output without a partition the tick's: its key is the saga's."""
    if output.partition is not None:
        return output
    return msgspec.structs.replace(output, partition=partition)
