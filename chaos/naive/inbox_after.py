"""Plug-in: the orchestrator claims its inbox rows in a transaction of its own, after the effects.

Cure removed: inbox row and effect in one transaction.
Hurts when: the worker dies between the two transactions: the repeat meets sagas that have moved on,
ignores every event as stale, and what the first attempt decided is published by nobody.
Breaks: X4 (a change of status that was never announced).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.db.inbox import Status
from app.delivery.effects import Effects, Finished, by_handler, claim_of, finished_by
from app.delivery.events import Event
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class ProcessThenMark(Effects):
    """First the work, then "seen"."""

    async def _apply(self, events: Sequence[Event], guessing: bool) -> list[Finished]:
        """Replaces the one transaction by two."""
        async with self._app.db.transaction() as tx:
            known, fresh = await self._look_up(tx, events)
            work = self._handler.apply(tx, fresh, self._app.clock.now()) if fresh else None
            applied = await by_handler(work) if work is not None else []
        finished = known
        if fresh:
            both = list(zip(fresh, applied, strict=True))
            async with self._app.db.transaction() as tx:
                await self._claim(tx, [claim_of(one, Status.DONE, a.outputs) for one, a in both])
            finished = known | {one.event_id: finished_by(one, a) for one, a in both}
        return [finished[event.event_id] for event in events]


def install(app: App) -> None:
    """Have the orchestrator mark last."""
    if unsafe(app, __name__, "inbox and effect in one transaction", "orchestrator"):
        for runner in app.runners:
            runner.step._effects.__class__ = ProcessThenMark
