"""What tests of the canary share: its control topics, and workers that only listen to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka.admin import AdminClient, NewTopic

from app.clock import SystemClock
from app.control.canary import Split, board
from app.settings import Settings


@contextmanager
def control_topics(bootstrap: str) -> Iterator[None]:
    """New control topics of the canary, whatever was there before; none afterwards."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    names = ["canary.config", "canary.acks"]
    for future in admin.delete_topics(names).values():
        if future.exception(20) is None:
            asyncio.run(asyncio.sleep(1))
    for future in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        future.result(20)
    yield
    for future in admin.delete_topics(names).values():
        future.result(20)


class Worker:
    """What a worker of a role knows of the canary."""

    def __init__(self, settings: Settings) -> None:
        self.split = Split()
        self.board = board(settings, self.split, SystemClock())

    async def start(self) -> None:
        """Follow the topic; returns once it is read."""
        await self.board.start()
        await asyncio.wait_for(self.board.caught_up.wait(), 60)
