"""Notifications: one row per subject, kind and occurrence, from INTENT (it may have been sent) to
SENT.

All statements take a whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.db.cursor import Cursor
from app.db.statements import statement
from app.errors import TransientDatabase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from app.db.engine import Database, Transaction
    from app.domain.notification import Message, Notice

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
    occurrence: str
    status: str
    text: str
    created_at: datetime
    sent_at: datetime | None


_KEYS = """
    unnest(:subjects::text[], :kinds::text[], :occurrences::text[])
    as k(subject, kind, occurrence)
"""
_CLAIM = statement(
    """
    insert into notifications.notification
           (id, subject, kind, occurrence, event_id, status, text, created_at)
    select id, subject, kind, occurrence, event_id, 'INTENT', text, :now
      from unnest(:ids::uuid[], :subjects::text[], :kinds::text[], :occurrences::text[],
                  :event_ids::uuid[], :texts::text[])
           as n(id, subject, kind, occurrence, event_id, text)
     order by subject, kind, occurrence
    on conflict do nothing
    returning id
    """
)
_KNOWN = statement(
    f"""
    select id, status, event_id from notifications.notification join {_KEYS}
           using (subject, kind, occurrence)
    """
)
_SENT = statement(
    f"""
    update notifications.notification n set status = 'SENT', sent_at = :now from {_KEYS}
     where n.subject = k.subject and n.kind = k.kind and n.occurrence = k.occurrence
       and n.status = 'INTENT'
    """
)
_LISTED = statement(
    "select id, subject, kind, occurrence, status, text, created_at, sent_at"
    " from notifications.notification"
    " where (:subject = '' or subject = :subject)"
    " and (created_at, id) < (:before_at ::timestamptz, :before_id ::uuid)"
    " order by created_at desc, id desc limit :limit"
)


async def claim(
    tx: Transaction, notices: Mapping[str, tuple[Notice, str]], now: datetime
) -> dict[str, Known]:
    """Record as INTENT those that are new; return what is recorded of each, by id.

    `notices` maps the id to the notice and its event. One round trip while all are new, none for
    no notices.
    """
    if not notices:
        return {}
    rows = await tx.fetch(
        _CLAIM,
        ids=list(notices),
        event_ids=[event_id for _, event_id in notices.values()],
        texts=[notice.text for notice, _ in notices.values()],
        now=now,
        **_keys([notice for notice, _ in notices.values()]),
    )
    known = {id_: Known(INTENT, notices[id_][1]) for (id_,) in rows}
    old = [notice for notice, _ in notices.values() if notice.id not in known]
    if old:
        rows = await tx.fetch(_KNOWN, **_keys(old))
        known |= {row[0]: Known(row[1], row[2]) for row in rows}
    if len(known) < len(notices):
        raise TransientDatabase("a notification was recorded meanwhile by another worker")
    return known


def sent(tx: Transaction, messages: Sequence[Message], now: datetime) -> None:
    """Queue: these were taken by the sink; one that is recorded as sent stays as it is."""
    tx.later(_SENT, now=now, **_keys(messages))


def _keys(told: Sequence[Notice | Message]) -> dict[str, Any]:
    return {
        "subjects": [one.subject for one in told],
        "kinds": [one.kind for one in told],
        "occurrences": [one.occurrence for one in told],
    }


async def listed(db: Database, limit: int, before: Cursor, subject: str) -> list[NotificationRow]:
    """Return at most `limit` notifications older than `before`, newest first; all, or of one
    subject."""
    rows = await db.fetch(
        _LISTED,
        subject=subject,
        before_at=before.at,
        before_id=before.id,
        limit=limit,
    )
    return [NotificationRow(*row) for row in rows]
