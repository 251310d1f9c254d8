"""Plug-in: payment takes a charge whose outcome is unknown for one that was not made.

Cure removed: before such a charge is compensated its key is cancelled at the gateway, and what was
captured is refunded.
Hurts when: the gateway charges, its reply is lost, and the order is cancelled meanwhile.
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


class Hopeful(Payments):
    """No answer means that nothing happened."""

    async def _refund(self, request: Refund) -> domain.Reply:
        """Replaces cancelling the key first."""
        if request.cancel_first:
            return domain.NothingCaptured()
        return await super()._refund(request)


def install(app: App) -> None:
    """Have payment hope."""
    if unsafe(app, __name__, "an unknown charge's key is cancelled", "payment"):
        for runner in app.runners:
            runner.spec.handler.__class__ = Hopeful
