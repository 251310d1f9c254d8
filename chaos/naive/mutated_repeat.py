"""Plug-in: shipping answers a repeat under the same id with another body.

Cure removed: a repeat is answered with the stored bytes.
Hurts when: a command is delivered twice.
Breaks: X3 (one event id with two bodies).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from app.db.engine import Transaction
from app.delivery.effects import Effects, Finished
from app.delivery.events import Event
from app.delivery.idempotency import IdempotencyTable
from app.messages.envelope import Output
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class AnswerAnew(Effects):
    """Says it again in other words."""

    async def _look_up(
        self, tx: Transaction, events: Sequence[Event]
    ) -> tuple[dict[str, Finished], list[Event]]:
        """Extends the look-up: outputs of repeats are made again, not copied."""
        known, fresh = await super()._look_up(tx, events)
        again = {
            one: done._replace(outputs=[reworded(out) for out in done.outputs])
            for one, done in known.items()
        }
        return again, fresh


class NoTable(IdempotencyTable):
    """Would answer with the stored bytes before the inbox is asked."""

    def split(self, events: Sequence[Event]) -> tuple[list[Event], list[Finished]]:
        """Replaces the look-up: nothing is known here."""
        return list(events), []


def reworded(output: Output) -> Output:
    """The same event with another body."""
    if output.value is None:
        return output
    body = msgspec.json.decode(output.value)
    return msgspec.structs.replace(
        output, value=msgspec.json.encode({**body, "reason": "repeated"})
    )


def install(app: App) -> None:
    """Have shipping answer anew."""
    if unsafe(app, __name__, "repeats answered with the stored bytes", "shipping"):
        for runner in app.runners:
            runner.step._effects.__class__ = AnswerAnew
            if runner.step.idempotency is not None:
                runner.step.idempotency.__class__ = NoTable
