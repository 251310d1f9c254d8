"""Plug-in: role web publishes an order's event after its commit and answers 500 when it cannot.

Cure removed: the outbox, which holds the event in the transaction of the order.
Hurts when: the broker is away while orders are placed: the client is told that it failed, the
order stands in the database for ever.
Breaks: X1 (the event is nowhere), O4 (its order never moves).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from chaos.naive import dual_write
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App


def install(app: App) -> None:
    """Have role web commit, publish then, and fail when it cannot."""
    if not unsafe(app, __name__, "the outbox", "web"):
        return
    dual_write.leave_out_the_outbox()
    publisher = dual_write.Publisher(app.settings)
    writer = import_module("web.api.writer").OrderWriter
    problem = import_module("web.problems").Problem

    async def commit_then_publish(
        self: Any, tx: Transaction, drafts: Sequence[Any], *, again: bool = False
    ) -> Any:
        """Replaces the one write by two; the second's failure is told as if both had failed."""
        with dual_write.holding() as held:
            answers = await cured(self, tx, drafts, again=again)
        try:
            await publisher.publish(held)
        except (KafkaError, TimeoutError):
            return [problem(500, "not_published", "The order failed.")] * len(answers)
        return answers

    cured = replace(writer, "_apply", commit_then_publish)
