"""Plug-in: role web publishes an order's event itself, before its commit.

Cure removed: the outbox, which publishes nothing that was not committed.
Hurts when: role web dies between the two writes, or the transaction is rolled back.
Breaks: X2 (an event of an order that does not exist), and what follows from that order: O5 (a saga
without an order), P4 and P6 (paid by nobody), H1 (a shipment without an order).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from app.failpoints import failpoint
from chaos.naive import dual_write
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App

LAST_MOMENT = "web.before_commit"


def install(app: App) -> None:
    """Have role web publish, and commit then."""
    if not unsafe(app, __name__, "the outbox", "web"):
        return
    dual_write.leave_out_the_outbox()
    publisher = dual_write.Publisher(app.settings)
    module = import_module("web.api.writer")

    async def publish_first(name: str, events: Sequence[Any] = ()) -> None:
        """Extends the last moment before COMMIT."""
        if name == LAST_MOMENT:
            await publisher.publish_or_forget(dual_write.held_now())
        await failpoint(name, events)

    async def publish_then_commit(
        self: Any, tx: Transaction, drafts: Sequence[Any], *, again: bool = False
    ) -> Any:
        """Replaces the one write by two, with nothing to join them."""
        with dual_write.holding():
            return await cured(self, tx, drafts, again=again)

    replace(module, "failpoint", publish_first)
    cured = replace(module.OrderWriter, "_apply", publish_then_commit)
