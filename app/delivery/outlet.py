"""A producer outside the steps of a consumer: idempotent, acknowledged, replaced when in doubt.

An idempotent producer is of no more use after a refusal or an expired send, so its owner asks for
a new one after every error and sends again; what that repeats must be harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from app.delivery.outputs import Outputs
from app.delivery.producer import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from app.settings import Settings

STOP_S = 2.0


class ProducerOutlet:
    """One producer at a time, connected by `reset`."""

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None

    def open(self) -> Outputs:
        """Return the way out of one round; raises KafkaError before `reset`."""
        if self._producer is None:
            raise KafkaConnectionError("the producer is not connected")
        return Outputs(self._producer)

    async def ready(self) -> Outputs:
        """Return the way out of one round, connecting when need be."""
        if self._producer is None:
            await self.reset()
        return self.open()

    async def reset(self) -> None:
        """Replace the producer; raises KafkaError while there is no broker."""
        await self.close()
        settings = self._settings
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.broker_bootstrap,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=int(settings.producer_request_timeout_s * 1000),
            metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
            max_batch_size=MAX_REQUEST_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
        )
        try:
            await producer.start()
        except BaseException:
            await _stop(producer)
            raise
        self._producer = producer

    async def close(self) -> None:
        """Let the producer go; records it still holds may or may not be written."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(producer.stop(), STOP_S)
