"""Plug-in: the orchestrator moves its watermark and commits it before it works on the batch.

Cure removed: the watermark moves last.
Hurts when: the worker dies in between: nobody reads the batch again.
Breaks: E2 (committed and never taken in); O4 when it was the creation of an order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery.batch import BatchMessage
from app.delivery.state import BatchState
from app.delivery.step import Step
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class AckFirst(Step):
    """At most once."""

    async def run(self, message: BatchMessage) -> None:
        """Replaces the order of the step: acknowledge, then work."""
        consumer = self._app.consumer
        consumer.finish(message)
        await consumer.commit_batches()
        self.state.enter(BatchState.WORKING)
        ordered = sorted(message.value, key=lambda tp: (self._precedence[tp.topic], tp.partition))
        await self._run_records([record for tp in ordered for record in message.value[tp]])


def install(app: App) -> None:
    """Have the orchestrator acknowledge first."""
    if unsafe(app, __name__, "the watermark moves last", "orchestrator"):
        for runner in app.runners:
            runner.step.__class__ = AckFirst
