"""The kill switch of chaos rules: one row with an epoch that only grows (ops.chaos_switch)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.db.statements import statement

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.engine import Database, Transaction


class Switch(NamedTuple):
    """Where the switch is, and who threw it last; nobody yet at epoch 0."""

    epoch: int
    thrown_by: str
    reason: str
    thrown_at: datetime | None


_EPOCH = statement("select epoch from ops.chaos_switch")
_READ = statement("select epoch, thrown_by, reason, thrown_at from ops.chaos_switch")
_SERIALISE = statement("select pg_advisory_xact_lock(:number)")
_CHANGES = 7_305_001
"""Any number that nothing else locks."""
_THROW = statement(
    "update ops.chaos_switch set epoch = epoch + 1, thrown_by = :by, reason = :reason,"
    " thrown_at = now() returning epoch, thrown_by, reason, thrown_at"
)


async def epoch(db: Database) -> int:
    """Return where the switch is: rules of a lower epoch are dead."""
    rows = await db.fetch(_EPOCH)
    return int(rows[0][0]) if rows else 0


async def read(tx: Transaction) -> Switch:
    """Return the switch."""
    rows = await tx.fetch(_READ)
    return Switch(*rows[0]) if rows else Switch(0, "", "", None)


async def serialise(tx: Transaction) -> None:
    """Let no other change of chaos rules happen until `tx` ends; the switch itself never waits."""
    await tx.fetch(_SERIALISE, number=_CHANGES)


async def throw(tx: Transaction, by: str, reason: str) -> Switch:
    """Raise the epoch, which ends every rule made before; return the switch."""
    rows = await tx.fetch(_THROW, by=by, reason=reason)
    return Switch(*rows[0])
