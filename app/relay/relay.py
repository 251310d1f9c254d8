"""The relay's loops: rounds as long as there is work, leases renewed beside them, lag observed.

Guarantees: while its leases hold it looks every `relay_poll_ms` for rows, and goes on at once while
rounds are full; outages of broker and database are waited for up to `outage_budget_s`, then `run`
raises OutageBudgetSpent. It does not LISTEN: a NOTIFY in every writer's transaction serialises
their commits (8 writers fell from 900 to 300 transactions/s), a look costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from app.db import leases, outbox
from app.errors import DatabaseOutage, TransientDatabase
from app.observability import metrics
from app.observability.logging import get_log
from app.outages import Outages, Stopped
from app.relay.ownership import Ownership
from app.relay.rounds import Rounds
from app.taps import Taps

if TYPE_CHECKING:
    from app.clock import Clock
    from app.db.engine import Database
    from app.relay.publisher import Outlet
    from app.settings import Settings

log = get_log(__name__)


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
        self._outages = Outages("relay", settings.outage_budget_s)

    async def run(self) -> None:
        """Work until `stop` or cancellation; then give the leases back and let Kafka go.

        Asked to stop during an outage, it leaves the round unfinished. Raises OutageBudgetSpent,
        and what no retry can heal.
        """
        try:
            with contextlib.suppress(Stopped):
                await self._outages.outlast("connect", self._outlet.reset)
                await self._outages.outlast("leases", lambda: leases.create(self._db))
                await self._outages.outlast("leases", self._ownership.renew)
                await self._work()
        finally:
            await self._outlet.close()

    async def _work(self) -> None:
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
        self._outages.stop()

    def status(self) -> dict[str, object]:
        """What an operator asks for: the shards held and whether the leases are valid."""
        return {
            "shards": sorted(self._ownership.shards),
            "leases_valid": self._ownership.is_valid(),
        }

    async def _publish_rows(self) -> None:
        while not self._outages.stopping:
            taken = await self._outages.outlast("publish", self._rounds.run)
            if taken < self._batch_max:
                await self._outages.sleep(self._poll_s)

    async def _keep_leases(self) -> None:
        while True:
            await self._outages.outlast("leases", self._ownership.renew)
            await asyncio.sleep(self._settings.relay_lease_renew_s)

    async def _watch_lag(self) -> None:
        while True:
            lag = await self._outages.outlast("lag", lambda: outbox.lag(self._db))
            metrics.RELAY_LAG_ROWS.child().set(lag.rows)
            oldest = lag.oldest_created_at
            age_s = 0.0 if oldest is None else (self._clock.now() - oldest).total_seconds()
            metrics.RELAY_LAG_AGE.child().set(max(0.0, age_s))
            await asyncio.sleep(self._settings.relay_lease_renew_s)

    async def _leave(self) -> None:
        try:
            await self._ownership.leave()
        except (DatabaseOutage, TransientDatabase) as error:
            log.warning("relay.leases_left_to_expire", reason=str(error))
