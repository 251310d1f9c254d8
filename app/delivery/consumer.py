"""The consumer: one poll = one event, own watermark, epochs, and a drained revocation.

Invariants (W1 and W2: `app.delivery.positions`; all state here lives on the main loop)
  W3  an epoch lasts from `perform_seek` to the next revocation or stop, and none opens before the
      assignment after it. A batch of another epoch is never begun.
  W4  a revocation waits for the running steps, commits, then ends the epoch. A held or waiting
      step is abandoned unfinished; one that does not end within the drain grace ends the process.
  W5  produce requests and transactions of a step run only while the group lease is fresh: the
      last accepted heartbeat was sent less than session timeout - margin ago.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.delivery.batch import BatchMessage, Records
from app.delivery.consumer_thread import ConsumerThread
from app.delivery.exits import Reason, end_process
from app.delivery.positions import BatchVanished, LogTruncated, Positions
from app.failpoints import failpoint
from app.observability import metrics

if TYPE_CHECKING:
    from app.delivery.app import App

POLL_S = 1.0
POLL_PARTIAL_S = 0.02
POLLS_AHEAD_MAX = 2
"""One poll in the step, one in the channel's queue."""


class Consumer(driver.Consumer):
    """Faust's aiokafka consumer with the cures of docs/adr/0003."""

    app: App
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.positions = Positions()
        self.epoch = 0
        self.generation = -1
        self.released = False
        self._positioned = self._revoked = False
        self._serial = itertools.count(1)
        self._pending: dict[int, Any] = {}
        self._running: set[int] = set()
        self._since_commit = 0
        super().__init__(*args, **kwargs)
        self._commit_mutex = asyncio.Lock()
        self._room = asyncio.Event()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def is_batch(self, tp: TP) -> bool:
        """Whether `tp` is delivered poll by poll (else it is a changelog or a stock topic)."""
        return tp.topic in self.app.batch_topics

    # Epochs

    async def perform_seek(self) -> None:
        """Replaces Consumer.perform_seek: one OffsetFetch, starts a new epoch (W1, W3).

        Faust resumes the input partitions before this seek (recovery.py:649); records of the
        wrong position arrive and the gap that the seek leaves is committed over.
        Red without it: tests/faults/test_ledger_can_fail.py.
        """
        self._end_epoch()
        epoch = self.epoch
        tps = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        await failpoint("delivery.before_seek")
        if tps:
            assigned = await self._thread.call_thread(self._thread.position_all, tps)
            if epoch != self.epoch:
                return  # revoked meanwhile; the next recovery seeks again
            batch = {tp: o for tp, o in assigned.positions.items() if self.is_batch(tp)}
            self.positions.begin(batch, assigned.committed)
            for tp in assigned.positions.keys() - batch.keys():
                offset = assigned.committed.get(tp) or None
                self._read_offset[tp] = self._committed_offset[tp] = offset
            self.generation = assigned.generation
            await failpoint("delivery.after_resume")
            if epoch != self.epoch:
                return
        self._positioned = True

    def release(self) -> None:
        """The seek is done and flow control is open for good: batch partitions may be read.

        Called by App.on_rebalance_end; this is the deferral of Faust's early resume. Opens nothing
        between a revocation and the assignment after it: a recovery may end just then.
        """
        self.released = self._positioned and not self._revoked
        self._room.set()
        if self.released:
            self.app.on_epoch()

    def _end_epoch(self) -> None:
        self.epoch += 1
        self.released = self._positioned = False
        self.positions.clear()
        self._pending.clear()
        self._room.set()

    async def quiesce(self) -> None:
        """W4: let the running steps end, commit what they finished, end the epoch."""
        self.released, self._revoked = False, True
        await failpoint("delivery.before_drain")
        began, grace_s = monotonic(), self.app.settings.drain_grace_s
        while self._running:
            if monotonic() - began > grace_s:
                end_process(Reason.DRAIN, f"a step still runs {grace_s} s after a revocation")
            await asyncio.sleep(0.005)
        await self.commit_batches()
        self._end_epoch()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Extends Consumer.on_partitions_revoked, which forgets acks before it commits.

        Red without it: the rebalance ledger's join and leave rounds (duplicates per round).
        """
        if revoked:
            metrics.REBALANCES.child(self.app.role.name, "revoked").inc()
        await self.quiesce()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Extends Consumer.on_partitions_assigned: a recovery of before opens nothing any more."""
        self.begin_assignment()
        await super().on_partitions_assigned(assigned, generation_id)

    def begin_assignment(self) -> None:
        """Only a seek that starts from here on may open the partitions (W3)."""
        self._end_epoch()
        self._revoked = False

    # Fetching

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Replaces Consumer.getmany: yields one BatchMessage per poll and channel.

        Changelog partitions keep the stock path. aiokafka gets a frozen, never empty set of
        partitions: the stock code hands over its live set, and an empty one means "any".
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        epoch, generation = self.epoch, self.app.consumer_generation_id
        active = self._get_active_partitions()
        wanted, complete = self._wanted(active)
        if not wanted:
            await self._wait_for_room()
            return
        records = await self._getmany(wanted, POLL_S if complete else POLL_PARTIAL_S)
        if not records or self._stale(generation):
            return  # dropped; every recovery seeks before it reads again
        groups, stock, back = self._sort(records, epoch)
        if back:
            await self._thread.call_thread(self._thread.seek_all, back)
        for channel, by_tp in groups.items():
            if not self.released or self.epoch != epoch:
                return
            yield next(iter(by_tp)), self._cut(channel, by_tp, generation)
        for tp, record in self.scheduler.iterate(stock):
            if self._stale(generation):
                return
            if tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, self._to_message(tp, record)

    def _stale(self, generation: int) -> bool:
        return (
            self.should_stop
            or not self.flow_active
            or self.app.consumer_generation_id != generation
        )

    def _wanted(self, active: set[TP]) -> tuple[frozenset[TP], bool]:
        """Partitions to poll, and whether none was left out (then the poll may wait long)."""
        busy: dict[Any, int] = defaultdict(int)
        for channel in self._pending.values():
            busy[channel] += 1
        wanted = frozenset(
            tp
            for tp in active
            if not self.is_batch(tp)
            or (
                self.released
                and busy[self._channel(tp)] < POLLS_AHEAD_MAX
                and tp.topic not in self.app.taps.paused
            )
        )
        return wanted, len(wanted) == len(active) and self.released

    async def _wait_for_room(self) -> None:
        self._room.clear()
        try:
            async with asyncio.timeout(POLL_PARTIAL_S):
                await self._room.wait()
        except TimeoutError:
            return

    def _channel(self, tp: TP) -> Any:
        return next(iter(self.app.topics._tp_index[tp]))

    def _sort(
        self, records: Mapping[Any, Sequence[Any]], epoch: int
    ) -> tuple[dict[Any, Records], dict[Any, Any], dict[TP, int]]:
        """Split one poll: {channel: batch records}, stock records, offsets to seek back to."""
        groups: dict[Any, Records] = defaultdict(dict)
        stock: dict[Any, Any] = {}
        back: dict[TP, int] = {}
        for raw_tp, listed in records.items():
            tp = TP(raw_tp.topic, raw_tp.partition)
            if not self.is_batch(tp):
                stock[raw_tp] = listed
                continue
            if not (self.released and self.epoch == epoch and tp in self.positions.next):
                continue
            try:
                kept, seek_to = self.positions.guard(tp, listed, self.highwater(tp))
            except LogTruncated as error:
                end_process(Reason.FAILURE, f"{error}: was the topic recreated?")
            if seek_to is not None:
                back[tp] = seek_to
                self.log.warning("%s-%d: seeking back to %d", tp.topic, tp.partition, seek_to)
            if kept:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                self.app.monitor.stream_inbound_time[tp] = monotonic()
                groups[self._channel(tp)][tp] = kept
        return groups, stock, back

    def _cut(self, channel: Any, by_tp: Records, generation: int) -> BatchMessage:
        spans = [self.positions.cut(tp, records) for tp, records in by_tp.items()]
        tp, last = next((tp, records[-1]) for tp, records in by_tp.items())
        # offset is a serial number: Faust drops an event whose offset is below the last one read
        message = BatchMessage(
            tp.topic, tp.partition, next(self._serial), last.timestamp / 1000.0,
            last.timestamp_type, None, None, by_tp, None, 0, 0, tp, generation_id=generation,
        )  # fmt: skip
        message.spans, message.epoch = spans, self.epoch
        self._pending[message.offset] = channel
        return message

    def on_buffer_full(self, tp: TP) -> None:
        """Replaces Consumer.on_buffer_full for batch partitions: no buffer-pressure callback.

        The stock one takes the partition out of the fetch while a poll is queued; the backlog
        drain then stalls (measured 5 times slower).
        """
        if not self.is_batch(tp):
            super().on_buffer_full(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Replaces Consumer._add_gap for batch partitions: a gap is never taken for done."""
        if not self.is_batch(tp):
            await super()._add_gap(tp, offset_from, offset_to)

    # Steps and watermark

    def begin(self, message: BatchMessage) -> bool:
        """Start a step; False when the batch belongs to an epoch that ended (W3).

        The caller must not await between this and the first instruction of the step.
        """
        if not self.released or message.epoch != self.epoch:
            self.positions.stat["stale"] += 1
            return False
        self._running.add(message.offset)
        return True

    def finish(self, message: BatchMessage) -> None:
        """The step's effects, tables and outputs are all acknowledged: move the watermark."""
        if message.epoch != self.epoch:
            end_process(Reason.FAILURE, "the epoch ended under a running step")
        try:
            self._since_commit += self.positions.finish(message.spans)
        except BatchVanished as error:
            end_process(Reason.FAILURE, str(error))
        self._settle(message)
        due = self._since_commit >= self.app.settings.commit_every_records
        if due and not self._commit_mutex.locked():
            self.add_future(self.commit_batches())

    def abandon(self, message: BatchMessage) -> None:
        """The step gave up unfinished because of a revocation: the watermark stays (W4)."""
        self.positions.stat["abandoned"] += 1
        self._settle(message)

    def _settle(self, message: BatchMessage) -> None:
        self._running.discard(message.offset)
        self._pending.pop(message.offset, None)
        self._room.set()

    def begin_tick(self) -> int | None:
        """Start a step without records; returns its ticket, None while nothing may run."""
        if not self.released:
            return None
        ticket = next(self._serial)
        self._running.add(ticket)
        return ticket

    def end_tick(self, ticket: int) -> None:
        """The tick is over, done or given up."""
        self._running.discard(ticket)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Extends Consumer.force_commit: stock topics as before, batch topics by watermark."""
        did = await super().force_commit(topics, start_new_transaction)
        return await self.commit_batches() or did

    async def commit_batches(self) -> bool:
        """Commit the watermarks that moved; refused when the generation is no longer theirs."""
        async with self._commit_mutex:
            self._since_commit = 0
            epoch, offsets = self.epoch, self.positions.uncommitted()
            if not offsets:
                return False
            await failpoint("delivery.before_offset_commit")
            thread = self._thread
            if not await thread.call_thread(thread.commit_at, self.generation, offsets):
                metrics.COMMITS.child(self.app.role.name, "refused").inc()
                return False
            await failpoint("delivery.after_offset_commit")
            if epoch == self.epoch:
                self.positions.note_committed(offsets)
                self.app.monitor.on_tp_commit(offsets)
                metrics.COMMITS.child(self.app.role.name, "ok").inc()
            return True

    def set_pace(self, pace_ms: float) -> None:
        """The least time between the fetches to come."""
        self._thread.fetch_pace_s = pace_ms / 1000

    # Lease

    def lease_age_s(self) -> float:
        """Seconds since the last accepted heartbeat was sent."""
        return monotonic() - self._thread.lease_at

    async def lease(self) -> None:
        """W5: return once the lease is fresh; end the process when it cannot become so.

        Called before a step's transaction, table write and outputs, and before each produce
        request. Does nothing while no step runs.
        """
        settings = self.app.settings
        limit_s = settings.session_timeout_s - settings.lease_margin_s
        began = monotonic()
        if self._running and self.lease_age_s() > limit_s:
            metrics.LEASE_WAITS.child(self.app.role.name).inc()
        while self._running and self.lease_age_s() > limit_s:
            if self.app.rebalancing or monotonic() - began > settings.session_timeout_s:
                end_process(Reason.LEASE, "group lease lost under a running step")
            await asyncio.sleep(0.02)
