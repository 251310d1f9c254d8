"""What the two dual-write plug-ins share: orders without outbox rows, published by role web itself.

An order's event is held back from the outbox and handed to `publish` by whoever decides when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.db import outbox
from app.observability.logging import get_log
from chaos.naive.loud import replace

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.messages import Output
    from app.settings import Settings

PUBLISH_S = 2.0
"""Longest wait for the broker, as a web request has it."""

log = get_log(__name__)
_held: ContextVar[list[Output] | None] = ContextVar("held_back_events", default=None)
_append = outbox.append


def leave_out_the_outbox() -> None:
    """Orders written inside `holding` get no outbox row; everything else still does."""

    def append(
        tx: Transaction, outputs: Sequence[Output], now: datetime, aggregate_type: str = "order"
    ) -> None:
        held = _held.get()
        if held is None:
            _append(tx, outputs, now, aggregate_type)
        else:
            held.extend(outputs)

    replace(outbox, "append", append)


@contextmanager
def holding() -> Iterator[list[Output]]:
    """Collect the events of the orders that are written meanwhile in this task."""
    held: list[Output] = []
    token = _held.set(held)
    try:
        yield held
    finally:
        _held.reset(token)


def held_now() -> list[Output]:
    """The events held back in this task so far."""
    return _held.get() or []


class Publisher:
    """A producer of role web's own, made when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._bootstrap = settings.broker_bootstrap
        self._producer: AIOKafkaProducer | None = None

    async def publish(self, events: Sequence[Output]) -> None:
        """Publish and await. Raises KafkaError or TimeoutError, after which nobody tries again."""
        async with asyncio.timeout(PUBLISH_S):
            producer = await self._connected()
            for one in events:
                await producer.send_and_wait(
                    one.topic, value=one.value, key=one.key, headers=one.headers
                )

    async def publish_or_forget(self, events: Sequence[Output]) -> None:
        """Publish; a failure is logged, and the events are gone."""
        try:
            await self.publish(events)
        except (KafkaError, TimeoutError) as error:
            log.error("naive.event_lost", error=error, events=len(events))

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap, request_timeout_ms=int(PUBLISH_S * 1000)
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer
