"""Role `relay`: publishes the outbox to Kafka; two or more share its shards.

It reads no topic. Records of one aggregate leave in the order of their commits; each at least once.
Debezium's event router on ops.outbox is its drop-in replacement.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import mode

from app.delivery.exits import Reason, end_process
from app.delivery.outlet import ProducerOutlet
from app.errors import OutageBudgetSpent
from app.failpoints import failpoint
from app.relay.relay import Relay

if TYPE_CHECKING:
    from app.delivery.app import App


class KafkaOutlet(ProducerOutlet):
    """The relay's own producer."""

    async def reset(self) -> None:
        """Extends ProducerOutlet.reset: the laboratory may strike between two producers."""
        await self.close()
        await failpoint("relay.before_connect")
        await super().reset()


class RelayService(mode.Service):
    """Runs one Relay between Faust's start and stop; ends the process when the relay fails."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._outlet: KafkaOutlet | None = None
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Start publishing; broker and database were there when the worker started."""
        app = self._app
        self._outlet = KafkaOutlet(app.settings, app.settings.worker_id)
        self._relay = Relay(app.settings, app.db, self._outlet, app.clock, app.taps)
        self._task = asyncio.create_task(self._run(self._relay), name="relay")

    async def on_stop(self) -> None:
        """Finish the round under way and give the leases back, within the drain grace."""
        if self._relay is None or self._task is None or self._outlet is None:
            return
        self._relay.stop()
        _, late = await asyncio.wait([self._task], timeout=self._app.settings.drain_grace_s)
        if late:
            end_process(Reason.DRAIN, "relay: a round outlived the drain grace")
        await self._outlet.close()

    async def _run(self, relay: Relay) -> None:
        try:
            await relay.run()
        except OutageBudgetSpent as error:
            end_process(Reason.OUTAGE, str(error))
        except Exception as error:
            end_process(Reason.FAILURE, f"relay: {type(error).__name__}: {error}")


def register(app: App) -> None:
    """Have `app` run the relay beside its Faust services."""
    app.service(RelayService(app))
