"""Which shards a relay keeps, takes and gives back: a pure rule over all leases.

Every relay keeps at most its share, the shards divided by the live relays, rounded up. Relays that
follow it converge: one with too many gives back, one with too few takes what is free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from app.db.leases import Lease


class Shares(NamedTuple):
    """`epochs` of the shards to hold from now on, and the shards that are too many."""

    epochs: dict[int, int]
    surplus: tuple[int, ...]


def share_out(leases: Sequence[Lease], owner: str, held: Mapping[int, int], members: int) -> Shares:
    """Decide for `owner`, who believes to hold `held` (shard -> epoch), among `members` relays.

    A lease under another epoch than believed is somebody's takeover: it is not held any more. A
    lease in `owner`'s name that it does not know of is its predecessor's, under a new epoch.
    """
    quota = -(-len(leases) // max(1, members))
    epochs = {
        lease.shard: lease.epoch
        for lease in leases
        if lease.owner == owner and held.get(lease.shard) == lease.epoch
    }
    surplus = tuple(sorted(epochs)[quota:])
    free = [
        lease
        for lease in leases
        if lease.shard not in epochs and (not lease.live or lease.owner == owner)
    ]
    for lease in free[: max(0, quota - len(epochs))]:
        epochs[lease.shard] = lease.epoch + 1
    return Shares(epochs, surplus)


def ready_to_release(surplus: Collection[int], in_flight: Collection[int]) -> list[int]:
    """The surplus shards of which no row is being published."""
    return sorted(set(surplus) - set(in_flight))
