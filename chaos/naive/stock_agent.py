"""Plug-in: the orchestrator's agent as Faust has it: an exception acknowledges what it failed on.

Cure removed: a failing step ends the process before anything is acknowledged.
Hurts when: anything in a step raises. Faust's stream acknowledges the event in a `finally`, starts
the agent anew, and the event is skipped.
Breaks: E2 (committed and never taken in); O4 when it was the creation of an order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.delivery.agent import StepRunner
from app.delivery.batch import BatchMessage
from app.observability.logging import get_log
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App

log = get_log(__name__)


class StockLoop(StepRunner):
    """`async for event in stream`, with Faust's own acknowledgement after the body."""

    async def consume(self, stream: Any) -> None:
        """Replaces our loop, in which only a finished step moves the watermark."""
        async for event in stream.events():
            message: BatchMessage = event.message
            consumer = self._app.consumer
            async with self._lock:
                if not consumer.begin(message):
                    continue
                await self._prepare()
                try:
                    await self.step.run(message)
                except Exception as error:
                    # Faust: the agent crashes, its event is acked, a new agent takes the next one
                    log.error("naive.event_skipped", error=error, consumer=self.spec.name)
                    consumer.finish(message)


def install(app: App) -> None:
    """Give the orchestrator Faust's loop."""
    if unsafe(app, __name__, "a failing step ends the process", "orchestrator"):
        for runner in app.runners:
            runner.__class__ = StockLoop
