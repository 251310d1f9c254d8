"""Deleting records of a dead-letter topic for good."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from app.settings import Settings

_REQUEST_S = 15.0


async def delete_records(settings: Settings, topic: str, ends: Mapping[int, int]) -> None:
    """Delete the records of `topic` below the given offset of each partition; may be repeated.

    Raises KafkaError; then some partitions may have been emptied already.
    """
    wanted = {
        TopicPartition(topic, partition): RecordsToDelete(before_offset=before)
        for partition, before in ends.items()
        if before > 0
    }
    if not wanted:
        return
    async with _admin(settings) as admin:
        await admin.delete_records(wanted, timeout_ms=int(_REQUEST_S * 1000))


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.broker_bootstrap,
        client_id=f"{settings.worker_id}-purge",
        request_timeout_ms=int(_REQUEST_S * 1000),
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
