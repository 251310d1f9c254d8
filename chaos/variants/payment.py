"""Bad versions of the gateway's client: slow, faulty and declining."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final

from app.errors import GatewayUnavailable
from app.gateway.client import GatewayClient
from app.gateway.replies import GatewayReply, Outcome

SLOW_S: Final = 1.5
FAULTY_SHARE: Final = 0.5
DECLINING_SHARE: Final = 0.5


class SlowClient(GatewayClient):
    """Takes SLOW_S longer for every charge."""

    async def charge(
        self, key: str, *, order_id: str, amount_minor: int, currency: str
    ) -> GatewayReply:
        """Extends GatewayClient.charge."""
        await asyncio.sleep(SLOW_S)
        return await super().charge(
            key, order_id=order_id, amount_minor=amount_minor, currency=currency
        )


class FaultyClient(GatewayClient):
    """Fails FAULTY_SHARE of all charges: half before the call, half after the money has moved.

    Both are what it says they are, indefinite: the same key is tried again.
    """

    async def charge(
        self, key: str, *, order_id: str, amount_minor: int, currency: str
    ) -> GatewayReply:
        """Extends GatewayClient.charge. Raises GatewayUnavailable."""
        luck = random.random()
        if luck < FAULTY_SHARE / 2:
            raise GatewayUnavailable("variant faulty: failed before the call")
        reply = await super().charge(
            key, order_id=order_id, amount_minor=amount_minor, currency=currency
        )
        if luck < FAULTY_SHARE:
            raise GatewayUnavailable("variant faulty: lost the answer")
        return reply


class DecliningClient(GatewayClient):
    """Declines DECLINING_SHARE of all cards although the provider would take them.

    The key is cancelled at the provider first: what is told as declined can never be captured.
    """

    async def charge(
        self, key: str, *, order_id: str, amount_minor: int, currency: str
    ) -> GatewayReply:
        """Extends GatewayClient.charge."""
        if random.random() < DECLINING_SHARE:
            cancelled = await self.cancel(key, order_id=order_id)
            if cancelled.outcome is not Outcome.ALREADY_CAPTURED:
                return GatewayReply(Outcome.DECLINED, reason="variant_declining")
        return await super().charge(
            key, order_id=order_id, amount_minor=amount_minor, currency=currency
        )


VARIANTS: Final[Mapping[str, type[GatewayClient]]] = {
    "slow": SlowClient,
    "faulty": FaultyClient,
    "declining": DecliningClient,
}
