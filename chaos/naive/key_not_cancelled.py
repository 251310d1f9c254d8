"""Plug-in: payment takes a charge whose outcome is unknown for one that was not made.

Cure removed: before such a charge is compensated its key is cancelled at the gateway, and what was
captured is refunded.
Hurts when: the gateway charges, its reply is lost, and the order is cancelled meanwhile.
Breaks: P3 (money kept of a cancelled order), P4, P6 (the books differ).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.payment import NothingCaptured, Refund
from chaos.naive.loud import handlers, replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Have payment hope: no answer means that nothing happened."""
    if unsafe(app, __name__, "an unknown charge's key is cancelled", "payment"):
        for handler in handlers(app):
            replace(handler, "_refund", _hopeful(handler._refund))


def _hopeful(refund: Any) -> Any:
    async def hope(request: Refund) -> Any:
        """Extends the refund: nothing is asked about a charge whose outcome is unknown."""
        return NothingCaptured() if request.cancel_first else await refund(request)

    return hope
