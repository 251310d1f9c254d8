"""Plug-in: role web publishes an order's event itself, before its commit.

Cure removed: the outbox, which publishes nothing that was not committed.
Hurts when: role web dies between the two writes, or the transaction is rolled back.
Breaks: X2 (an event of an order that does not exist), and what follows from that order: O5 (a saga
without an order), P4 and P6 (paid by nobody), H1 (a shipment without an order).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.clock import Clock
from app.db.engine import Database, Transaction
from app.failpoints import failpoint
from app.settings import Settings
from chaos.naive import dual_write
from chaos.naive.loud import replace, unsafe
from web import application
from web.api import writer
from web.api.drafts import Draft
from web.api.writer import OrderWriter, Stored
from web.problems import Problem

if TYPE_CHECKING:
    from app.delivery import App

LAST_MOMENT = "web.before_commit"


class PublishThenCommit(OrderWriter):
    """Two writes, one after the other, with nothing to join them."""

    def __init__(self, settings: Settings, db: Database, clock: Clock) -> None:
        super().__init__(settings, db, clock)
        publisher = dual_write.Publisher(settings)

        async def publish_first(name: str, events: Sequence[Any] = ()) -> None:
            if name == LAST_MOMENT:
                await publisher.publish_or_forget(dual_write.held_now())
            await failpoint(name, events)

        replace(writer, "failpoint", publish_first)

    async def _apply(self, tx: Transaction, drafts: Sequence[Draft]) -> list[Stored | Problem]:
        """Replaces the one write: the events, then COMMIT."""
        with dual_write.holding():
            return await super()._apply(tx, drafts)


def install(app: App) -> None:
    """Give role web the writer that publishes first."""
    if unsafe(app, __name__, "the outbox", "web"):
        dual_write.leave_out_the_outbox()
        replace(application, "OrderWriter", PublishThenCommit)
