"""The producer: idempotent, and fenced by the group lease."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from faust.transport.drivers import aiokafka as driver

from app.delivery import aiokafka_seams as seams

if TYPE_CHECKING:
    from app.delivery.app import App

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""Room for a dead letter: a record of the broker's limit (1 MiB) plus its headers."""


class Producer(driver.Producer):
    """Faust's aiokafka producer with the idempotent protocol switched on."""

    app: App

    def _settings_extra(self) -> Mapping[str, Any]:
        """Replaces the driver's: Faust enables idempotence only inside transactions.

        Without it a retried request can write twice or out of order.
        """
        return {"acks": "all", "enable_idempotence": True}

    async def on_start(self) -> None:
        """Extends the driver's: no produce request leaves without a fresh lease (W5)."""
        await super().on_start()
        if self.app.consumes:
            seams.before_each_produce(self._producer, self.app.lease)
