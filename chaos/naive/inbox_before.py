"""Plug-in: the orchestrator claims its inbox rows in a transaction of its own, before the effects.

Cure removed: inbox row and effect in one transaction.
Hurts when: the worker dies between the two transactions: the repeat finds the events done.
Breaks: O4 (the order never moves: lost or stuck).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.db import inbox
from app.db.inbox import Status
from app.db.statements import statement
from app.delivery.effects import Effects, Finished, by_handler, claim_of, finished_by
from app.delivery.events import Event
from app.failpoints import failpoint
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


_SAY = statement(
    f"""
    UPDATE ops.inbox AS known
       SET status = claim.status, attempt = claim.attempt, outputs = claim.outputs,
           topic = claim.topic, partition = claim.part, "offset" = claim."offset"
      FROM {inbox._ROWS}
     WHERE known.consumer = :consumer AND known.event_id = claim.event_id
    """  # noqa: S608 (composed of a constant)
)


class MarkThenProcess(Effects):
    """First "seen", then the work and what it has to say."""

    async def _apply(self, events: Sequence[Event], guessing: bool) -> list[Finished]:
        """Replaces the one transaction by two."""
        async with self._app.db.transaction() as tx:
            known, fresh = await self._look_up(tx, events)
            if fresh:
                claims = [claim_of(one, Status.DONE, ()) for one in fresh]
                await inbox.claim(tx, self._name, claims)
        finished = known
        if fresh:
            async with self._app.db.transaction() as tx:
                work = self._handler.apply(tx, fresh, self._app.clock.now())
                applied = await by_handler(work)
                await failpoint("delivery.in_transaction", fresh)
                both = list(zip(fresh, applied, strict=True))
                said = [claim_of(one, Status.DONE, a.outputs) for one, a in both]
                tx.later(_SAY, consumer=self._name, **inbox._columns(said))
            finished = known | {one.event_id: finished_by(one, a) for one, a in both}
        return [finished[event.event_id] for event in events]


def install(app: App) -> None:
    """Have the orchestrator mark first."""
    if unsafe(app, __name__, "inbox and effect in one transaction", "orchestrator"):
        for runner in app.runners:
            runner.step._effects.__class__ = MarkThenProcess
