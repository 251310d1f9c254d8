"""Plug-in: the orchestrator logs an event that failed and goes on.

Cure removed: an event that fails moves to a retry tier or to the dead letters.
Hurts when: an event fails, even once.
Breaks: E2 (committed and never taken in); O4 when it was the creation of an order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery.effects import Effects, Finished, Store
from app.delivery.events import Event
from app.errors import SymphonyError
from app.observability.logging import get_log
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App

log = get_log(__name__)


class Swallow(Effects):
    """`except Exception: log`."""

    async def _isolate(self, event: Event, error: SymphonyError, store: Store) -> Finished:
        """Replaces the move to a tier."""
        log.error("naive.event_skipped", error=error, event_id=event.event_id)
        return Finished(event.partition, event.key, event.event_id, (), done=False)


def install(app: App) -> None:
    """Have the orchestrator swallow."""
    if unsafe(app, __name__, "retry tiers and dead letters", "orchestrator"):
        for runner in app.runners:
            runner.step._effects.__class__ = Swallow
