"""The relay's loops: rounds as long as there is work, leases renewed beside them, lag observed.

Guarantees: while its leases hold it looks every `relay_poll_ms` for rows, and goes on at once while
rounds are full; outages of broker and database are waited for up to `outage_budget_s`, then `run`
raises OutageBudgetSpent. It does not LISTEN: a NOTIFY in every writer's transaction serialises
their commits (8 writers fell from 900 to 300 transactions/s), a look costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from aiokafka.errors import KafkaError

from app.db import leases, outbox
from app.errors import DatabaseOutage, OutageBudgetSpent, TransientDatabase
from app.observability import metrics
from app.observability.logging import get_log
from app.relay.ownership import Ownership
from app.relay.rounds import Rounds
from app.taps import Taps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.clock import Clock
    from app.db.engine import Database
    from app.relay.publisher import Outlet
    from app.settings import Settings

log = get_log(__name__)
T = TypeVar("T")

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0


class Relay:
    """One relay process's work; two or more share the shards."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        outlet: Outlet,
        clock: Clock,
        taps: Taps | None = None,
    ) -> None:
        self._settings = settings
        self._db = db
        self._outlet = outlet
        self._clock = clock
        self._poll_s = settings.relay_poll_ms / 1000
        self._batch_max = settings.relay_batch_max
        self._ownership = Ownership(db, settings.worker_id, settings.relay_lease_ttl_s)
        self._rounds = Rounds(db, self._ownership, outlet, clock, self._batch_max, taps or Taps())
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop` or cancellation; then give the leases back.

        Raises OutageBudgetSpent, and what no retry can heal.
        """
        await self._patiently("connect", self._outlet.reset)
        await self._patiently("leases", lambda: leases.create(self._db))
        await self._patiently("leases", self._ownership.renew)
        tasks = [
            asyncio.create_task(self._publish_rows(), name="relay-rounds"),
            asyncio.create_task(self._keep_leases(), name="relay-leases"),
            asyncio.create_task(self._watch_lag(), name="relay-lag"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._leave()

    def stop(self) -> None:
        """Ask `run` to end after the round under way."""
        self._stopping.set()

    def status(self) -> dict[str, object]:
        """What an operator asks for: the shards held and whether the leases are valid."""
        return {
            "shards": sorted(self._ownership.shards),
            "leases_valid": self._ownership.is_valid(),
        }

    async def _publish_rows(self) -> None:
        while not self._stopping.is_set():
            taken = await self._patiently("publish", self._rounds.run)
            if taken < self._batch_max:
                await self._sleep(self._poll_s)

    async def _keep_leases(self) -> None:
        while True:
            await self._patiently("leases", self._ownership.renew)
            await asyncio.sleep(self._settings.relay_lease_renew_s)

    async def _watch_lag(self) -> None:
        while True:
            lag = await self._patiently("lag", lambda: outbox.lag(self._db))
            metrics.RELAY_LAG_ROWS.child().set(lag.rows)
            oldest = lag.oldest_created_at
            age_s = 0.0 if oldest is None else (self._clock.now() - oldest).total_seconds()
            metrics.RELAY_LAG_AGE.child().set(max(0.0, age_s))
            await asyncio.sleep(self._settings.relay_lease_renew_s)

    async def _patiently(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await `attempt()` until neither PostgreSQL nor the way to the broker is at fault."""
        began_s, tries = monotonic(), 0
        while True:
            try:
                return await attempt()
            except (TransientDatabase, DatabaseOutage, KafkaError) as error:
                why: Exception = error
            if monotonic() - began_s > self._settings.outage_budget_s:
                raise OutageBudgetSpent(f"relay {what}: {why}") from why
            if tries == 0:
                log.warning("relay.waiting", what=what, reason=f"{type(why).__name__}: {why}")
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(tries, 16))
            await asyncio.sleep(backoff_s * (0.5 + random.random() / 2))
            tries += 1

    async def _sleep(self, duration_s: float) -> None:
        """Sleep, shorter when asked to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(duration_s):
                await self._stopping.wait()

    async def _leave(self) -> None:
        try:
            await self._ownership.leave()
        except (DatabaseOutage, TransientDatabase) as error:
            log.warning("relay.leases_left_to_expire", reason=str(error))
