"""The shards this relay owns: taken, renewed, given back, and never believed for too long.

Guarantees: a shard is usable only while its lease cannot have expired, counted from before the
renewal was asked for by a clock that goes on while the process is stopped.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from app.db import leases
from app.failpoints import failpoint
from app.observability import metrics
from app.observability.logging import get_log
from app.relay.shares import ready_to_release, share_out

if TYPE_CHECKING:
    from collections.abc import Collection

    from app.db.engine import Database

log = get_log(__name__)


class Ownership:
    """Leases of one relay; `renew` is called by one task, the rest by another of the same loop."""

    def __init__(self, db: Database, owner: str, ttl_s: float) -> None:
        self._db = db
        self._owner = owner
        self._ttl_s = ttl_s
        self._epochs: dict[int, int] = {}
        self._valid_until_s = 0.0
        self._surplus: set[int] = set()
        self._in_flight: frozenset[int] = frozenset()

    @property
    def owner(self) -> str:
        """The name under which this relay holds its leases."""
        return self._owner

    @property
    def shards(self) -> Collection[int]:
        """The shards it holds, those being given back included."""
        return self._epochs.keys()

    def take(self) -> dict[int, int]:
        """Return shard -> epoch of what may be published now, and call that in flight."""
        usable = {}
        if self.is_valid():
            usable = {s: e for s, e in self._epochs.items() if s not in self._surplus}
        self._in_flight = frozenset(usable)
        return usable

    def put_back(self) -> None:
        """Nothing is in flight any more."""
        self._in_flight = frozenset()

    def is_valid(self) -> bool:
        """Whether no lease of ours can have expired."""
        return monotonic() < self._valid_until_s

    def lost(self, shards: Collection[int]) -> None:
        """The database refused us: these shards have another owner."""
        for shard in shards:
            if self._epochs.pop(shard, None) is not None:
                metrics.RELAY_LEASES.child("fenced").inc()
                log.warning("relay.fenced", shard=shard, owner=self._owner)

    async def renew(self) -> None:
        """Renew what is ours, take what is free, give back what is too much; one transaction.

        Raises TransientDatabase or DatabaseOutage; the leases then simply age.
        """
        await failpoint("relay.before_renew")
        began_s = monotonic()
        async with self._db.transaction() as tx:
            rows, members = await leases.lock(tx, self._owner, self._ttl_s)
            shares = share_out(rows, self._owner, self._epochs, members)
            leases.hold(tx, self._owner, shares.epochs, self._ttl_s)
            released = ready_to_release(self._surplus.intersection(shares.surplus), self._in_flight)
            if released:
                leases.release(tx, self._owner, released)
            kept = {s: e for s, e in shares.epochs.items() if s not in released}
            await failpoint("relay.before_renew_commit")
        await failpoint("relay.after_renew")
        self._note(kept, released)
        self._surplus = set(shares.surplus).difference(released)
        self._valid_until_s = began_s + self._ttl_s

    async def leave(self) -> None:
        """Give everything back, so that others need not wait. Errors as `renew`."""
        await failpoint("relay.before_leave")
        self._epochs.clear()
        self._valid_until_s = 0.0
        async with self._db.transaction() as tx:
            leases.leave(tx, self._owner)
        metrics.RELAY_SHARDS.child().set(0)

    def _note(self, kept: dict[int, int], released: list[int]) -> None:
        taken = [shard for shard, epoch in kept.items() if self._epochs.get(shard) != epoch]
        gone = [shard for shard in self._epochs if shard not in kept and shard not in released]
        metrics.RELAY_LEASES.child("acquired").inc(len(taken))
        metrics.RELAY_LEASES.child("lost").inc(len(gone))
        metrics.RELAY_LEASES.child("renewed").inc(len(kept) - len(taken))
        metrics.RELAY_SHARDS.child().set(len(kept))
        if taken or gone or released:
            log.info("relay.shards", taken=taken, lost=gone, released=released, held=sorted(kept))
        self._epochs = kept
