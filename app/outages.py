"""Waiting for PostgreSQL and the broker in loops that own no partitions (relay, redrive).

`app.delivery.patience` is the same for a consumer's steps, which also have an assignment to keep.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from aiokafka.errors import KafkaError

from app.errors import DatabaseOutage, OutageBudgetSpent, TransientDatabase
from app.observability.logging import get_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = get_log(__name__)
T = TypeVar("T")

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0


class Stopped(Exception):
    """Asked to stop while a dependency was away: what was attempted is left unfinished."""


class Outages:
    """One loop's patience, at most `budget_s` for each outage, and its wish to stop."""

    def __init__(self, name: str, budget_s: float) -> None:
        self._name = name
        self._budget_s = budget_s
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """End sleeps now, and outages at their next failure."""
        self._stopping.set()

    async def sleep(self, duration_s: float) -> bool:
        """Sleep, shorter when asked to stop; whether to go on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self._stopping.wait()
        return not self.stopping

    async def outlast(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await `attempt()` until neither PostgreSQL nor the way to the broker is at fault.

        `attempt` must be repeatable. Raises what else it raises, OutageBudgetSpent after
        `budget_s`, and Stopped when asked to stop during an outage.
        """
        began_s, tries = monotonic(), 0
        while True:
            try:
                return await attempt()
            except (TransientDatabase, DatabaseOutage, KafkaError) as error:
                why: Exception = error
            if monotonic() - began_s > self._budget_s:
                raise OutageBudgetSpent(f"{self._name} {what}: {why}") from why
            if tries == 0:
                reason = f"{type(why).__name__}: {why}"
                log.warning("outage.waiting", loop=self._name, what=what, reason=reason)
            if not await self.sleep(_backoff_s(tries)):
                raise Stopped(what) from why
            tries += 1


def _backoff_s(tries: int) -> float:
    """Exponential backoff with equal jitter (Brooker, "Exponential Backoff And Jitter")."""
    ceiling: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(tries, 16))
    return ceiling * (0.5 + random.random() / 2)
