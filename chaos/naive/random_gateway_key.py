"""Plug-in: payment calls the gateway under a new idempotency key each time.

Cure removed: the command id is the idempotency key, however often the call is repeated.
Hurts when: the worker dies after the gateway's answer and before its record: the repeat is a new
charge to the gateway.
Breaks: P1 (charged twice), P7 (one request under several keys), O4 (a refund names a key that the
gateway never saw, and is asked for in vain for ever); with them the sums: P2, P3, P4, P6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from app.gateway.client import GatewayClient
from app.gateway.replies import GatewayReply
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class KeyPerCall(GatewayClient):
    """Every call is a request of its own to the gateway."""

    async def charge(
        self, key: str, *, order_id: str, amount_minor: int, currency: str
    ) -> GatewayReply:
        """Replaces the command's key."""
        return await super().charge(
            str(uuid4()), order_id=order_id, amount_minor=amount_minor, currency=currency
        )


def install(app: App) -> None:
    """Give payment a client with random keys."""
    if unsafe(app, __name__, "one idempotency key per command", "payment"):
        for runner in app.runners:
            runner.spec.handler._gateway.__class__ = KeyPerCall
