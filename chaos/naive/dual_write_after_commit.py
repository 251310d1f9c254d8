"""Plug-in: role web publishes an order's event itself, after its commit, and forgets a failure.

Cure removed: the outbox, which holds the event in the transaction of the order.
Hurts when: the broker is away while orders are accepted.
Breaks: X1 (the event is nowhere), O4 (its order never moves).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.clock import Clock
from app.db.engine import Database, Transaction
from app.settings import Settings
from chaos.naive import dual_write
from chaos.naive.loud import replace, unsafe
from web import application
from web.api.drafts import Draft
from web.api.writer import OrderWriter, Stored
from web.problems import Problem

if TYPE_CHECKING:
    from app.delivery import App


class CommitThenPublish(OrderWriter):
    """Two writes, one after the other, with nothing to join them."""

    def __init__(self, settings: Settings, db: Database, clock: Clock) -> None:
        super().__init__(settings, db, clock)
        self._publisher = dual_write.Publisher(settings)

    async def _apply(self, tx: Transaction, drafts: Sequence[Draft]) -> list[Stored | Problem]:
        """Replaces the one write: COMMIT, then the events."""
        with dual_write.holding() as held:
            answers = await super()._apply(tx, drafts)
        await self._publisher.publish_or_forget(held)
        return answers


def install(app: App) -> None:
    """Give role web the writer without an outbox."""
    if unsafe(app, __name__, "the outbox", "web"):
        dual_write.leave_out_the_outbox()
        replace(application, "OrderWriter", CommitThenPublish)
