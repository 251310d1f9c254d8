"""Defects of what is kept in PostgreSQL: inbox, fences, tombstones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.db import inbox, inventory, payments, sagas, shipping
from app.delivery.effects import Effects
from app.domain import results
from app.domain.decision import Decision, Ignored
from chaos.simulation.plants.registry import plant
from chaos.simulation.statements.sagas import move

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from app.db.engine import Transaction
    from app.db.inbox import Claim
    from app.delivery.effects import Finished
    from app.delivery.events import Event
    from chaos.simulation.database import Tx
    from chaos.simulation.plants.registry import Planting


@plant("no-inbox")
def no_inbox(planting: Planting) -> None:
    """Consumers keep no inbox: whatever comes is applied."""

    async def lookup(*_: object) -> dict[str, Any]:
        return {}

    async def claim(tx: Transaction, *_: object) -> None:
        await tx.commit()

    planting.replace(inbox, "lookup", lookup)
    planting.replace(inbox, "claim", claim)
    planting.replace(inbox, "complete", claim)


@plant("inbox-first")
def inbox_first(planting: Planting) -> None:
    """The inbox row is committed in a transaction of its own, before the effect."""

    async def split_known(
        self: Effects, tx: Transaction, events: Sequence[Event]
    ) -> tuple[dict[str, Finished], Sequence[Event]]:
        known, fresh = await self._look_up(tx, events)
        if fresh:
            async with self._app.db.transaction() as own:
                claims = [
                    inbox.Claim(
                        *(one.event_id, inbox.Status.DONE, one.delivery, b"\x90"),
                        *(one.topic, one.partition, one.offset),
                    )
                    for one in fresh
                ]
                await was_claimed(own, self._name, claims)
        return known, fresh

    async def claim(tx: Transaction, consumer: str, claims: Sequence[Claim]) -> None:
        if any(one.status is not inbox.Status.DONE for one in claims):
            await was_claimed(tx, consumer, claims)
        else:
            await tx.commit()

    was_claimed = inbox.claim
    planting.replace(Effects, "_split_known", split_known)
    planting.replace(inbox, "claim", claim)


@plant("inbox-afterwards")
def inbox_afterwards(planting: Planting) -> None:
    """The effect is committed first, the inbox row in a transaction of its own afterwards."""

    async def claim(tx: Transaction, consumer: str, claims: Sequence[Claim]) -> None:
        await tx.commit()
        connection = tx._connection
        later = type(tx)(connection)
        await was_claimed(later, consumer, claims)

    was_claimed = inbox.claim
    planting.replace(inbox, "claim", claim)


@plant("no-version-fence")
def no_version_fence(planting: Planting) -> None:
    """A saga is written whatever its version is meanwhile."""

    async def write(tx: Tx, p: Any) -> Any:
        return [(one,) for one in await move(tx, p, guarded=False)]

    async def write_all(tx: Tx, p: Any) -> Any:
        await move(tx, p, guarded=False)
        return [(None,)]

    planting.replace_statement(sagas._WRITE, write)
    planting.replace_statement(sagas._WRITE_ALL, write_all)


def _without_tombstones(planting: Planting, module: Any, status: str) -> None:
    """Do not store a first record of this status."""

    def store(
        tx: Transaction, known: Mapping[str, Any], changed: Collection[Any], *rest: Any
    ) -> None:
        kept = [one for one in changed if one.order_id in known or one.status != status]
        stored(tx, known, kept, *rest)

    stored = module.store
    planting.replace(module, "store", store)


@plant("late-charge-kept")
def late_charge_kept(planting: Planting) -> None:
    """A refund leaves nothing behind for the charge it overtook, and a late success is ignored."""

    def late_success(*_: object) -> Decision:
        return Ignored("stale")

    _without_tombstones(planting, payments, "CANCELLED")
    planting.replace(results, "_late_success", late_success)


@plant("no-inventory-tombstone")
def no_inventory_tombstone(planting: Planting) -> None:
    """A release that comes before its reservation leaves nothing behind."""
    _without_tombstones(planting, inventory, "RELEASED")


@plant("no-shipping-tombstone")
def no_shipping_tombstone(planting: Planting) -> None:
    """A cancellation that comes before its shipment leaves nothing behind."""
    _without_tombstones(planting, shipping, "CANCELLED")
