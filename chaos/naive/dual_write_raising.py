"""Plug-in: role web publishes an order's event after its commit and answers 500 when it cannot.

Cure removed: the outbox, which holds the event in the transaction of the order.
Hurts when: the broker is away while orders are placed: the client is told that it failed, the
order stands in the database for ever.
Breaks: X1 (the event is nowhere), O4 (its order never moves).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from app.db.engine import Transaction
from chaos.naive import dual_write
from chaos.naive.dual_write_after_commit import CommitThenPublish
from chaos.naive.loud import replace, unsafe
from web import application
from web.api.drafts import Draft
from web.api.writer import OrderWriter, Stored
from web.problems import Problem

if TYPE_CHECKING:
    from app.delivery import App


class CommitThenPublishOrFail(CommitThenPublish):
    """The failure of the second write is answered as if the first had not happened."""

    async def _apply(self, tx: Transaction, drafts: Sequence[Draft]) -> list[Stored | Problem]:
        """Replaces the one write: COMMIT, then the events, or a 500."""
        with dual_write.holding() as held:
            answers = await OrderWriter._apply(self, tx, drafts)
        try:
            await self._publisher.publish(held)
        except (KafkaError, TimeoutError):
            return [Problem(500, "not_published", "The order failed.")] * len(answers)
        return answers


def install(app: App) -> None:
    """Give role web the writer that fails after its commit."""
    if unsafe(app, __name__, "the outbox", "web"):
        dual_write.leave_out_the_outbox()
        replace(application, "OrderWriter", CommitThenPublishOrFail)
