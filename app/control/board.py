"""The reading side of a control topic: a worker has it whole, live, and says how far.

A control topic is compacted, has one partition and keyed values. The board reads it from the
beginning without a consumer group and then goes on; it hands each change to `apply` in order, and
acknowledges at its start, after each change and at intervals. Guarantees: it never ends or blocks
its worker; while Kafka is away it keeps what it has and comes back by itself. It does not guarantee
that a worker has read it before its first event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import mode
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from app.clock import Clock, SystemClock
from app.control.acks import Ack, encode
from app.errors import BrokerOutage
from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.settings import Settings
    from app.topics import TopicSpec

log = get_log(__name__)

Apply = Callable[[str, bytes | None, int], str]
"""(key, value or None when deleted, version) -> empty, or why it was refused. Must not wait."""

FETCH_WAIT_MS = 500
RETRY_S = 0.5
RETRY_MAX_S = 5.0
STOP_S = 2.0
LOOK_S = 0.005


class Board(mode.Service):
    """One worker's view of one control topic, between the worker's start and stop.

    `version` is what is applied so far. `note` is asked for at each acknowledgement.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        topic: TopicSpec,
        acks: TopicSpec,
        apply: Apply,
        note: Callable[[], dict[str, Any]] = dict,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._partition = TopicPartition(topic.name, 0)
        self._acks_topic = acks.name
        self._apply = apply
        self._note = note
        self._clock = clock or SystemClock()
        self._tasks: list[asyncio.Task[None]] = []
        self._due = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._refused: dict[str, str] = {}
        self.version = 0
        self.caught_up = asyncio.Event()

    async def on_start(self) -> None:
        """Start reading; does not wait for Kafka."""
        self._tasks = [
            asyncio.create_task(self._forever(self._read), name=f"board {self._partition.topic}"),
            asyncio.create_task(self._forever(self._acknowledge), name=f"{self._acks_topic}"),
        ]

    async def on_stop(self) -> None:
        """Stop reading; what was applied stays applied."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=STOP_S)
        self._tasks = []

    def renew(self) -> None:
        """Acknowledge again soon, because what `note` says has changed."""
        self._due.set()

    async def reach(self, version: int, timeout_s: float) -> None:
        """Return when everything below `version` is applied; BrokerOutage after `timeout_s`.

        For who changes the topic and must know what it says (`Publisher.end`).
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.caught_up.wait()
                while self.version < version:
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise BrokerOutage(f"{self._partition.topic} cannot be read now") from None

    async def publish(
        self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
    ) -> bool:
        """Send a record beside the acknowledgements; whether the broker took it.

        For what may be lost: nobody tries again.
        """
        producer = self._producer
        if producer is None:
            return False
        try:
            async with asyncio.timeout(self._settings.control_timeout_s):
                await producer.send_and_wait(topic, value, key=key, headers=headers)
        except (KafkaError, TimeoutError) as error:
            log.warning("board.not_published", topic=topic, reason=_reason(error))
            return False
        return True

    async def _forever(self, work: Callable[[], Any]) -> None:
        """Do `work`, which only an error ends, again and again."""
        pause_s, said = RETRY_S, ""
        while True:
            began = self._clock.monotonic()
            try:
                await work()
            except Exception as error:
                if (reason := _reason(error)) != said:
                    log.warning("board.away", topic=self._partition.topic, reason=reason)
                    said = reason
            if self._clock.monotonic() - began > RETRY_MAX_S:
                pause_s, said = RETRY_S, ""
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)

    async def _read(self) -> None:
        """Follow the topic from where it was left."""
        settings, place = self._settings, self._partition
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.broker_bootstrap,
            client_id=f"{settings.worker_id}-board",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
        )
        try:
            await consumer.start()
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            if self.version > end:
                log.warning("board.topic_new", topic=place.topic, version=self.version, end=end)
                self.version = 0
            consumer.seek(place, self.version)
            self._reached(end)
            while True:
                batches = await consumer.getmany(timeout_ms=2 * FETCH_WAIT_MS)
                for record in batches.get(place, ()):
                    self._take(record.key, record.value, record.offset + 1)
                self._reached(end)
        finally:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(consumer.stop(), STOP_S)

    def _reached(self, end: int) -> None:
        """Note that all is read that stood in the topic when it was opened."""
        if self.version >= end and not self.caught_up.is_set():
            self.caught_up.set()
            self._due.set()
            log.info("board.read", topic=self._partition.topic, version=self.version)

    def _take(self, key: bytes | None, value: bytes | None, version: int) -> None:
        name = (key or b"").decode(errors="replace")
        try:
            refusal = self._apply(name, value, version)
        except Exception as error:
            log.error("board.apply_failed", topic=self._partition.topic, key=name, error=error)
            refusal = _reason(error)
        self._refused.pop(name, None)
        if refusal:
            self._refused[name] = refusal
        self.version = version
        if self.caught_up.is_set():
            self._due.set()

    async def _acknowledge(self) -> None:
        """Say how far this worker is, whenever that changes and at intervals."""
        settings = self._settings
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.broker_bootstrap,
            client_id=f"{settings.worker_id}-acks",
            acks="all",
            metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
        )
        try:
            await producer.start()
            self._producer = producer
            await self.caught_up.wait()
            while True:
                self._due.clear()
                async with asyncio.timeout(settings.control_timeout_s):
                    await producer.send_and_wait(
                        self._acks_topic, encode(self._ack()), key=settings.worker_id.encode()
                    )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), settings.control_heartbeat_s)
        finally:
            self._producer = None
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(producer.stop(), STOP_S)

    def _ack(self) -> Ack:
        settings = self._settings
        return Ack(
            worker=settings.worker_id,
            role=settings.role,
            incarnation=settings.incarnation,
            version=self.version,
            at=self._clock.now(),
            refused=dict(self._refused),
            note=self._note(),
        )


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
