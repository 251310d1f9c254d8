"""Notifications: one row per subject and kind, from INTENT (it may have been sent) to SENT.

All statements take a whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.db.order_reads import NEWEST, Cursor
from app.db.statements import statement
from app.errors import TransientDatabase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from app.db.engine import Database, Transaction
    from app.domain.notification import Notice

INTENT, SENT = "INTENT", "SENT"


class Known(NamedTuple):
    """What is recorded of a notification: its status, and the event that brought it about."""

    status: str
    event_id: str


class NotificationRow(NamedTuple):
    """One notification as people read it."""

    id: str
    subject: str
    kind: str
    status: str
    text: str
    created_at: datetime
    sent_at: datetime | None


_CLAIM = statement(
    """
    with new as (
        insert into notifications.notification
               (id, subject, kind, event_id, status, text, created_at)
        select id, subject, kind, event_id, 'INTENT', text, :now
          from unnest(:ids::uuid[], :subjects::text[], :kinds::text[], :event_ids::uuid[],
                      :texts::text[]) as n(id, subject, kind, event_id, text)
         order by id
        on conflict do nothing
        returning id, status, event_id
    )
    select id, status, event_id from new
    union all
    select id, status, event_id from notifications.notification where id = any(:ids::uuid[])
    """
)
_SENT = statement(
    "update notifications.notification set status = 'SENT', sent_at = :now"
    " where id = any(:ids::uuid[]) and status = 'INTENT'"
)
_LISTED = statement(
    "select id, subject, kind, status, text, created_at, sent_at from notifications.notification"
    " where (:subject = '' or subject = :subject)"
    " and (created_at, id) < (:before_at ::timestamptz, :before_id ::uuid)"
    " order by created_at desc, id desc limit :limit"
)


async def claim(
    tx: Transaction, notices: Mapping[str, tuple[Notice, str]], now: datetime
) -> dict[str, Known]:
    """Record as INTENT those that are new; return what is recorded of each, by id.

    `notices` maps the id to the notice and its event. One round trip, none for no notices.
    """
    if not notices:
        return {}
    rows = await tx.fetch(
        _CLAIM,
        ids=list(notices),
        subjects=[notice.subject for notice, _ in notices.values()],
        kinds=[notice.kind for notice, _ in notices.values()],
        event_ids=[event_id for _, event_id in notices.values()],
        texts=[notice.text for notice, _ in notices.values()],
        now=now,
    )
    known = {row[0]: Known(row[1], row[2]) for row in rows}
    if len(known) < len(notices):
        raise TransientDatabase("a notification was recorded meanwhile by another worker")
    return known


def sent(tx: Transaction, ids: Sequence[str], now: datetime) -> None:
    """Queue: these were taken by the sink; one that is recorded as sent stays as it is."""
    tx.later(_SENT, ids=list(ids), now=now)


async def listed(
    db: Database, limit: int, before: Cursor = NEWEST, subject: str = ""
) -> list[NotificationRow]:
    """Return at most `limit` notifications older than `before`, newest first; all, or of one
    subject."""
    rows = await db.fetch(
        _LISTED,
        subject=subject,
        before_at=before.created_at,
        before_id=before.order_id,
        limit=limit,
    )
    return [NotificationRow(*row) for row in rows]
