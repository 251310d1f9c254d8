"""Plug-in: payment gives an event up, notes that, and sends no dead letter.

Cure removed: the dead letter is the stored output of the transaction that parks the event.
Hurts when: the gateway fails for longer than the retries last.
Breaks: D2 (parked without a dead letter).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.db.inbox import Status
from app.delivery.events import Event
from app.delivery.moves import Moves
from app.errors import SymphonyError
from app.messages.envelope import Output
from app.topics import DLT_SUFFIX
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


class GiveUp(Moves):
    """Parked, and nobody can find it."""

    def move(
        self, tx: Transaction, event: Event, error: SymphonyError
    ) -> tuple[Status, tuple[Output, ...]]:
        """Extends the move: the letter is left out."""
        status, outputs = super().move(tx, event, error)
        return status, tuple(out for out in outputs if not out.topic.endswith(DLT_SUFFIX))


def install(app: App) -> None:
    """Have payment give up quietly."""
    if unsafe(app, __name__, "the dead letter of a parked event", "payment"):
        for runner in app.runners:
            runner.step._effects._moves.__class__ = GiveUp
