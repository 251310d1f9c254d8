"""Plug-in: payment answers a refund with OK and does not call the gateway.

Cure removed: a compensation is confirmed only after it was made.
Hurts when: an order is cancelled after its charge. No fault is needed.
Breaks: P3 (money kept of a cancelled order), P4, P6 (the books differ).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.domain.payment import Refund, Refunded
from chaos.naive.loud import handlers, replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App


async def refund_nothing(request: Refund) -> Refunded:
    """Replaces the refund: it is as good as done."""
    return Refunded()


def install(app: App) -> None:
    """Have payment forget refunds."""
    if unsafe(app, __name__, "a refund is made before it is confirmed", "payment"):
        for handler in handlers(app):
            replace(handler, "_refund", refund_nothing)
