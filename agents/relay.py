"""Role `relay`: publishes the outbox to Kafka; two or more share its shards.

It reads no topic. Records of one aggregate leave in the order of their commits; each at least once.
Debezium's event router on ops.outbox is its drop-in replacement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery.outlet import ProducerOutlet
from app.failpoints import failpoint
from app.relay.relay import Relay
from app.work import WorkService

if TYPE_CHECKING:
    from app.delivery.app import App


class KafkaOutlet(ProducerOutlet):
    """The relay's own producer."""

    async def reset(self) -> None:
        """Extends ProducerOutlet.reset: the laboratory may strike between two producers."""
        await self.close()
        await failpoint("relay.before_connect")
        await super().reset()


def register(app: App) -> None:
    """Have `app` run the relay beside its Faust services."""
    app.service(WorkService(app, "relay", _relay))


def _relay(app: App) -> Relay:
    outlet = KafkaOutlet(app.settings, app.settings.worker_id)
    return Relay(app.settings, app.db, outlet, app.clock, app.taps)
