"""Plug-in: the orchestrator drops an event that its inbox knows, and publishes nothing for it.

Cure removed: stored outputs are published again on every repeat.
Hurts when: the worker dies after its COMMIT: the repeat is "already done", its outputs never leave.
Breaks: X1 (a decided output is nowhere), X4 (a change of status that was never announced).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.db.engine import Transaction
from app.delivery.effects import Effects, Finished
from app.delivery.events import Event
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class SkipRepeats(Effects):
    """Remembers that it did something, and not what it had to say about it."""

    async def _look_up(
        self, tx: Transaction, events: Sequence[Event]
    ) -> tuple[dict[str, Finished], list[Event]]:
        """Extends the look-up: what is known has no outputs."""
        known, fresh = await super()._look_up(tx, events)
        return {one: done._replace(outputs=()) for one, done in known.items()}, fresh


def install(app: App) -> None:
    """Have the orchestrator skip repeats."""
    if unsafe(app, __name__, "outputs published again on a repeat", "orchestrator"):
        for runner in app.runners:
            runner.step._effects.__class__ = SkipRepeats
