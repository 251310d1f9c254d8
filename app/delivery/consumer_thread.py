"""The consumer's own thread and loop: everything here talks to aiokafka directly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from app.delivery import aiokafka_seams as seams
from app.delivery.exits import Reason, end_process

if TYPE_CHECKING:
    from app.delivery.app import App
    from app.delivery.consumer import Consumer


class Assigned(NamedTuple):
    """What a new assignment starts from."""

    generation: int
    positions: dict[TP, int]
    committed: dict[TP, int]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Runs aiokafka; called from the main loop through `call_thread` only."""

    app: App
    consumer: Consumer
    lease_at = 0.0
    """Monotonic time at which the last accepted heartbeat was sent."""
    fetch_pace_s = 0.0
    """The least time between two fetches; set from the main loop."""
    _seeks = 0

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Extends the driver's: records are read by our reader."""
        seams.read_misnamed_headers()
        return super()._create_worker_consumer(transport)

    async def on_start(self) -> None:
        """Extends the driver's: a broker known, pace, heartbeat clock, and metadata complete before
        assigning.
        """
        await super().on_start()
        await seams.know_brokers(self._consumer)
        settings = self.app.settings
        self.fetch_pace_s = (self.app.role.fetch_pace_ms or settings.fetch_pace_ms) / 1000
        seams.set_fetch_wait(
            self._consumer,
            max_wait_ms=settings.fetch_max_wait_ms,
            prefetch_backoff_s=settings.prefetch_backoff_ms / 1000,
        )
        seams.pace_fetches(self._consumer, self._pace_s)
        seams.note_heartbeats(self._consumer, self._note_heartbeat)
        seams.complete_metadata_before_assigning(
            self._consumer,
            lambda: list(self.app.topics._topic_name_index),
            lambda why: end_process(Reason.OUTAGE, why),
        )

    def _pace_s(self) -> float:
        """The pace of input; changelogs are recovered as fast as they come."""
        return self.fetch_pace_s if self.consumer.released else 0.0

    def _note_heartbeat(self, sent_at: float) -> None:
        self.lease_at = sent_at

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        """Extends the driver's: partitions with a backlog take turns, poll by poll, and a poll
        that a seek overtook gives its records back.

        A poll may wait longer than a rebalance lasts. Records that it takes after the new
        assignment's seek would be dropped by the caller, whose epoch ended, and be read again
        only when more of their partition arrive. Red without it:
        tests/delivery/test_overtaken_poll.py, tests/conformance/test_outages.py.
        """
        seeks = self._seeks
        records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        seams.take_turns(consumer, records)
        if seeks == self._seeks:
            return records
        # no await since they were taken: nobody has seen them or moved the positions
        await self.seek_all(
            {TP(tp.topic, tp.partition): taken[0].offset for tp, taken in records.items()}
        )
        return {}

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        """Extends the driver's, by which Faust seeks changelogs: counted like our own seeks."""
        self._seeks += 1
        await super()._seek_wait(consumer, partitions)

    async def position_all(self, tps: set[TP]) -> Assigned:
        """Seek `tps` to their committed offsets, else to the reset position, in one request."""
        consumer = self._ensure_consumer()
        generation = seams.generation(consumer)
        raw = [driver.ensure_aiokafka_TP(tp) for tp in tps]
        known = await seams.committed_offsets(consumer, raw)
        committed = {TP(tp.topic, tp.partition): offset for tp, offset in known.items()}
        positions = dict(committed)
        unknown = [driver.ensure_aiokafka_TP(tp) for tp in tps if tp not in committed]
        if unknown:
            latest = self.app.conf.consumer_auto_offset_reset == "latest"
            ask = consumer.end_offsets if latest else consumer.beginning_offsets
            for tp, offset in (await ask(unknown)).items():
                positions[TP(tp.topic, tp.partition)] = offset
        await self.seek_all(positions)
        await seams.heartbeat_now(consumer)
        return Assigned(generation, positions, committed)

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Seek those of `offsets` that are assigned now."""
        consumer, mine = self._ensure_consumer(), self.assignment()
        self._seeks += 1
        for tp, offset in offsets.items():
            if tp in mine:
                seams.seek(consumer, driver.ensure_aiokafka_TP(tp), offset)

    async def commit_at(self, generation: int, offsets: Mapping[TP, int]) -> bool:
        """Commit `offsets` counted in `generation`; False when refused or not answered in time.

        Replaces AIOKafkaConsumerThread.commit, which has no timeout and swallows the generation.
        """
        consumer = self._ensure_consumer()
        if seams.generation(consumer) != generation or not set(offsets) <= self.assignment():
            return False
        wanted = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items()}
        try:
            async with asyncio.timeout(self.app.settings.request_timeout_s):
                await consumer.commit(wanted)
        except (driver.CommitFailedError, driver.IllegalStateError, TimeoutError):
            return False
        self.tp_last_committed_at.update(dict.fromkeys(offsets, monotonic()))
        return True
