"""Plug-in: payment takes a lost answer for a refusal.

Cure removed: an indefinite outcome is tried again under the same key until it is known.
Hurts when: the gateway charges and its reply is lost: the order is cancelled as declined, and
nobody compensates a charge that "did not happen".
Breaks: P3 (money kept of a cancelled order), P4, P6 (the books differ), O7 (ends as its class must
not).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.payment import Begun, Payments
from app.domain import payment as domain
from app.domain.payment import Charge
from app.errors import Indefinite
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class Guessing(Payments):
    """No answer is an answer."""

    async def call(self, begun: Begun) -> domain.Reply:
        """Extends the call: what is unknown counts as declined."""
        try:
            return await super().call(begun)
        except Indefinite:
            if not isinstance(begun.call, Charge):
                raise
            return domain.Declined("no_answer")


def install(app: App) -> None:
    """Have payment guess."""
    if unsafe(app, __name__, "an indefinite outcome is tried again", "payment"):
        for runner in app.runners:
            runner.spec.handler.__class__ = Guessing
