"""Plug-in: payment takes a lost answer for a refusal.

Cure removed: an indefinite outcome is tried again under the same key until it is known.
Hurts when: the gateway charges and its reply is lost: the order is cancelled as declined, and
nobody compensates a charge that "did not happen".
Breaks: P3 (money kept of a cancelled order), P4, P6 (the books differ), O7 (ends as its class must
not).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.domain.payment import Charge, Declined
from app.errors import Indefinite
from chaos.naive.loud import handlers, replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Have payment guess: no answer is an answer."""
    if not unsafe(app, __name__, "an indefinite outcome is tried again", "payment"):
        return
    for handler in handlers(app):
        replace(handler, "call", _guessing(handler.call))


def _guessing(call: Any) -> Any:
    async def guess(begun: Any) -> Any:
        """Extends the call: what is unknown counts as declined."""
        try:
            return await call(begun)
        except Indefinite:
            if not isinstance(begun.call, Charge):
                raise
            return Declined("no_answer")

    return guess
