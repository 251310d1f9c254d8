"""Waiting for the world: what a step does while PostgreSQL is down or contended.

A database outage is not the event's fault: the batch is *held*, without an open transaction, and
tried again with backoff until `outage_budget_s`; then the process ends. Contention (deadlock,
lock timeout) repeats the whole batch with jitter and never counts as an event's attempt.
A revocation, SIGTERM or rebalance abandons a held or waiting step unacknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from app.delivery.exits import Reason, end_process
from app.delivery.flood import Flooded
from app.delivery.state import BatchState, StateTracker
from app.errors import DatabaseOutage, TransientDatabase
from app.failpoints import failpoint
from app.observability import metrics

if TYPE_CHECKING:
    from app.delivery.app import App

T = TypeVar("T")

BACKOFF_FIRST_S = 0.02
BACKOFF_MAX_S = 2.0
WAIT_SLICE_S = 0.05


class Abandoned(Exception):
    """The partitions are being revoked: leave the step unfinished."""


class Patience:
    """Runs the transactional parts of one consumer's steps."""

    def __init__(self, app: App, consumer_name: str, state: StateTracker) -> None:
        self._app = app
        self._name = consumer_name
        self._state = state

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await `attempt()` until it neither meets an outage nor contention; one dead letter too
        many is held until an operator acts, however long.

        Raises what else it raises, and Abandoned on a revocation. `attempt` must be repeatable.
        """
        began, tries = monotonic(), 0
        while True:
            await self._app.lease()
            why: Exception
            try:
                result = await attempt()
            except TransientDatabase as error:
                metrics.BATCH_RETRIES.child(self._name, error.code).inc()
                why = error
            except DatabaseOutage as error:
                if tries == 0:
                    metrics.HOLDS.child(self._name, "database").inc()
                self._state.enter(BatchState.HELD, "database")
                why = error
            except Flooded as flooded:
                await flooded.hold(self.pause)
                began, tries = monotonic(), 0
                continue
            else:
                if tries:
                    self._state.enter(BatchState.WORKING)
                return result
            if monotonic() - began > self._app.settings.outage_budget_s:
                end_process(Reason.OUTAGE, f"{self._name}: outage budget spent: {why}")
            await failpoint("delivery.while_held")
            await self.pause(_backoff_s(tries))
            tries += 1

    async def pause(self, duration_s: float) -> None:
        """Sleep without outliving the assignment; raises Abandoned when it ends."""
        until = monotonic() + duration_s
        while True:
            if not self._app.consumer.released:
                raise Abandoned
            left_s = until - monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(min(WAIT_SLICE_S, left_s))


def _backoff_s(tries: int) -> float:
    """Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter")."""
    ceiling: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(tries, 16))
    return ceiling * (0.5 + random.random() / 2)
