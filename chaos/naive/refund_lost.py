"""Plug-in: payment answers a refund with OK and does not call the gateway.

Cure removed: a compensation is confirmed only after it was made.
Hurts when: an order is cancelled after its charge. No fault is needed.
Breaks: P3 (money kept of a cancelled order), P4, P6 (the books differ).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.payment import Payments
from app.domain import payment as domain
from app.domain.payment import Refund
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class Forgetful(Payments):
    """The refund is as good as done."""

    async def _refund(self, request: Refund) -> domain.Reply:
        """Replaces the refund."""
        return domain.Refunded()


def install(app: App) -> None:
    """Have payment forget refunds."""
    if unsafe(app, __name__, "a refund is made before it is confirmed", "payment"):
        for runner in app.runners:
            runner.spec.handler.__class__ = Forgetful
