"""Who did what: one row per act of an operator, in the transaction of the act itself.

Guarantees: an act is recorded if and only if it was committed. Rows are never changed or removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.statements import statement
from app.db.texts import storable, storable_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from app.db.engine import Database, Transaction


class Act(NamedTuple):
    """One recorded act; `detail` is whatever describes it."""

    id: int
    actor: str
    action: str
    target: str
    reason: str
    detail: dict[str, Any]
    request_id: str
    at: datetime


RECORD = statement(
    "insert into ops.audit_log (actor, action, target, reason, detail, request_id)"
    " values (:actor, :action, :target, :reason, :detail::jsonb, :request_id)"
)
_RECENT = statement(
    "select id, actor, action, target, reason, detail, request_id, at from ops.audit_log"
    " where id < :before and (:target = '' or target = :target) order by id desc limit :limit"
)
_NEWEST = 2**63 - 1


def record(
    tx: Transaction,
    *,
    actor: str,
    action: str,
    target: str,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
    request_id: str = "",
) -> None:
    """Queue the row of an act: it is written with the next round trip or the COMMIT of `tx`.

    `action` is a verb with its object's kind (`dead_letter.discard`), `target` what it was done
    to; `detail` must be JSON.
    """
    tx.later(
        RECORD,
        **row(
            actor=actor,
            action=action,
            target=target,
            reason=reason,
            detail=detail,
            request_id=request_id,
        ),
    )


def row(
    *,
    actor: str,
    action: str,
    target: str,
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
    request_id: str = "",
) -> dict[str, str]:
    """Return the parameters of RECORD, for who writes it on a connection of its own."""
    return {
        "actor": storable(actor),
        "action": action,
        "target": storable(target),
        "reason": storable(reason),
        "detail": storable_json(detail or {}),
        "request_id": storable(request_id),
    }


async def recent(
    db: Database, limit: int, *, target: str = "", before: int | None = None
) -> list[Act]:
    """Return at most `limit` acts, newest first: all or those on `target`, older than `before`."""
    place = _NEWEST if before is None else before
    rows = await db.fetch(_RECENT, before=place, target=target, limit=limit)
    return [Act(*row) for row in rows]
