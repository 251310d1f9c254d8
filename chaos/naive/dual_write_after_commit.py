"""Plug-in: role web publishes an order's event itself, after its commit, and forgets a failure.

Cure removed: the outbox, which holds the event in the transaction of the order.
Hurts when: the broker is away while orders are accepted.
Breaks: X1 (the event is nowhere), O4 (its order never moves).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from chaos.naive import dual_write
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


def install(app: App) -> None:
    """Have role web commit, and publish then."""
    if not unsafe(app, __name__, "the outbox", "web"):
        return
    dual_write.leave_out_the_outbox()
    publisher = dual_write.Publisher(app.settings)
    writer = import_module("web.api.writer").OrderWriter

    async def commit_then_publish(
        self: Any, tx: Transaction, drafts: Sequence[Any], *, again: bool = False
    ) -> Any:
        """Replaces the one write by two, with nothing to join them."""
        with dual_write.holding() as held:
            answers = await cured(self, tx, drafts, again=again)
        await publisher.publish_or_forget(held)
        return answers

    cured = replace(writer, "_apply", commit_then_publish)
