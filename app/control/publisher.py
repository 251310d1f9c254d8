"""The writing side of a control topic: publish a keyed value, wait until workers say so.

Connects on first use, inside whatever process (the web role has no other way to Kafka). While Kafka
is away every call raises BrokerOutage within `control_timeout_s`; nothing is kept for later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from app.clock import Clock, SystemClock
from app.control.acks import DECODER, Ack
from app.errors import BrokerOutage
from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.settings import Settings
    from app.topics import TopicSpec

log = get_log(__name__)

FETCH_WAIT_MS = 500
STOP_S = 2.0
BATCH_MAX_BYTES = 768 * 1024
"""Below what a broker takes at once by default."""
HEARTBEATS = 3
"""A worker not heard of for so many heartbeats says nothing any more."""


class Acked(NamedTuple):
    """Which of the asked workers have the version in force, and which have not said so (yet)."""

    acked: tuple[str, ...]
    pending: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every worker said so."""
        return not self.pending


class Publisher:
    """Writes one control topic and reads its acknowledgements; for one event loop."""

    def __init__(
        self, settings: Settings, *, topic: TopicSpec, acks: TopicSpec, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._topic = topic.name
        self._acks_place = TopicPartition(acks.name, 0)
        self._clock = clock or SystemClock()
        self._opening = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._asker: AIOKafkaConsumer | None = None
        self._reader: asyncio.Task[None] | None = None
        self._heard = asyncio.Condition()
        self._latest = asyncio.Event()
        self._acks: dict[str, Ack] = {}

    async def publish(self, key: str, value: bytes | None) -> int:
        """Set `key` to `value`, or delete it; return the change's version. Raises BrokerOutage."""
        return await self.publish_all([(key, value)])

    async def publish_all(self, changes: Sequence[tuple[str, bytes | None]]) -> int:
        """Set or delete keys, all or none of them; return the last one's version.

        They are one record batch, so the others have the versions just before it, in their order.
        Raises BrokerOutage when Kafka did not take them in time; it may have taken all the same.
        Raises ValueError for none, or for more than a batch can hold; then nothing was sent.
        """
        try:
            async with asyncio.timeout(self._settings.control_timeout_s):
                producer = await self._open()
                batch = _batch_of(producer, changes)
                future = await producer.send_batch(batch, self._topic, partition=0)
                written = await future
        except (KafkaError, OSError, TimeoutError) as error:
            await self._close_producer()
            raise BrokerOutage(
                f"Kafka did not take a change of {self._topic}: {type(error).__name__} {error}"
            ) from error
        return int(written.offset) + len(changes)

    async def end(self) -> int:
        """Return the version of the latest change there is, whoever made it; or BrokerOutage.

        On a connection of its own: a broker answers one request of a connection after the other,
        and a consumer's fetch is answered when something comes.
        """
        place = TopicPartition(self._topic, 0)
        try:
            async with asyncio.timeout(self._settings.control_timeout_s):
                asker = await self._ask()
                return int((await asker.end_offsets([place]))[place])
        except (KafkaError, OSError, TimeoutError) as error:
            await self._close_asker()
            raise BrokerOutage(
                f"Kafka does not tell the end of {self._topic}: {type(error).__name__} {error}"
            ) from error

    async def await_acks(self, version: int, workers: Collection[str], timeout_s: float) -> Acked:
        """Wait until all `workers` have applied everything below `version`, at most `timeout_s`.

        Waits for nothing else: whether a worker refused is in `heard()`. Raises BrokerOutage when
        acknowledgements cannot be read at all.
        """
        await self.listen()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._heard:
                await self._heard.wait_for(lambda: not self._pending(version, workers))
        pending = self._pending(version, workers)
        return Acked(tuple(sorted(set(workers) - set(pending))), pending)

    def said(self) -> Mapping[str, Ack]:
        """The last acknowledgement of each worker, however long ago: its version tells of what."""
        return dict(self._acks)

    def heard(self) -> Mapping[str, Ack]:
        """The last acknowledgement of each worker that was heard of lately."""
        oldest_s = self._clock.now().timestamp() - HEARTBEATS * self._settings.control_heartbeat_s
        return {w: ack for w, ack in self._acks.items() if ack.at.timestamp() >= oldest_s}

    async def listen(self, wait_s: float = 0.0) -> None:
        """Follow the acknowledgements from now on; may be called again.

        Waits at most `wait_s` until the latest ones are read.
        """
        if self._reader is None or self._reader.done():
            self._latest.clear()
            self._reader = asyncio.create_task(self._follow(), name=f"{self._acks_place.topic}")
        if wait_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._latest.wait(), wait_s)

    async def close(self) -> None:
        """Let Kafka go."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader], timeout=STOP_S)
        await self._close_producer()
        await self._close_asker()

    def _pending(self, version: int, workers: Collection[str]) -> tuple[str, ...]:
        return tuple(
            worker
            for worker in sorted(workers)
            if (ack := self._acks.get(worker)) is None or ack.version < version
        )

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                settings = self._settings
                producer = AIOKafkaProducer(
                    bootstrap_servers=settings.broker_bootstrap,
                    client_id=f"{settings.worker_id}-control",
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=BATCH_MAX_BYTES,
                    metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer

    async def _ask(self) -> AIOKafkaConsumer:
        async with self._opening:
            if self._asker is None:
                settings = self._settings
                asker = AIOKafkaConsumer(
                    bootstrap_servers=settings.broker_bootstrap,
                    client_id=f"{settings.worker_id}-control-end",
                    group_id=None,
                    enable_auto_commit=False,
                    metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
                )
                try:
                    await asker.start()
                except BaseException:
                    await _stop(asker)
                    raise
                self._asker = asker
            return self._asker

    async def _close_asker(self) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            await _stop(asker)

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _follow(self) -> None:
        """Read acknowledgements until it fails; the next call of `listen` starts it anew."""
        settings, place = self._settings, self._acks_place
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.broker_bootstrap,
            client_id=f"{settings.worker_id}-acks-reader",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
        )
        try:
            await consumer.start()
            consumer.assign([place])
            since_s = self._clock.now().timestamp() - HEARTBEATS * settings.control_heartbeat_s
            end = (await consumer.end_offsets([place]))[place]
            found = (await consumer.offsets_for_times({place: int(since_s * 1000)}))[place]
            consumer.seek(place, end if found is None else found.offset)
            read = end if found is None else found.offset
            while True:
                if read >= end:
                    self._latest.set()
                batches = await consumer.getmany(timeout_ms=2 * FETCH_WAIT_MS)
                for record in batches.get(place, ()):
                    self._hear(record.value)
                    read = record.offset + 1
                if batches:
                    async with self._heard:
                        self._heard.notify_all()
        except (KafkaError, OSError) as error:
            log.warning("control.acks_unread", topic=place.topic, reason=str(error))
        finally:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(consumer.stop(), STOP_S)

    def _hear(self, value: bytes | None) -> None:
        try:
            ack = DECODER.decode(value or b"")
        except msgspec.DecodeError as error:
            log.warning("control.ack_unreadable", reason=str(error))
            return
        self._acks[ack.worker] = ack


def _batch_of(producer: AIOKafkaProducer, changes: Sequence[tuple[str, bytes | None]]) -> Any:
    if not changes:
        raise ValueError("no change was given")
    batch = producer.create_batch()
    for key, value in changes:
        if batch.append(timestamp=None, key=key.encode(), value=value) is None:
            raise ValueError(f"{len(changes)} changes are more than {BATCH_MAX_BYTES} bytes")
    batch.close()
    return batch


async def _stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    with contextlib.suppress(TimeoutError, KafkaError):
        await asyncio.wait_for(client.stop(), STOP_S)
