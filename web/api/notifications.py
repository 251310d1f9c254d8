"""Views of notifications: who was told what, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web

from app.db import notifications
from app.db.cursor import Cursor
from app.observability.health import json_response
from web.api.filters import text_of
from web.api.paging import BEFORE, LIMIT, next_cursor, page_of
from web.context import CONTEXT
from web.routes import Param, Route

SUBJECT: Final = Param("subject", str, "only of this order, SKU, rule or client")


class NotificationOut(msgspec.Struct, frozen=True, rename="camel"):
    """One notification; `status` INTENT: the sink may have it, SENT: the sink has it. `occurrence`
    tells those of one subject and kind apart: a restock, a rule's version, a day."""

    id: str
    subject: str
    kind: str
    occurrence: str
    status: str
    text: str
    created_at: datetime
    sent_at: datetime | None


class NotificationsOut(msgspec.Struct, frozen=True):
    """A part of the list of notifications."""

    notifications: list[NotificationOut]
    next: str | None


async def recent(request: web.Request) -> web.Response:
    """GET /api/notifications?subject=&limit=&before=: newest first, `next` until it is null."""
    limit, before = page_of(request)
    subject = text_of(request, "subject")
    rows = await notifications.listed(request.app[CONTEXT].db, limit, before, subject)
    last = Cursor(rows[-1].created_at, rows[-1].id) if len(rows) == limit else None
    listed = [NotificationOut(*row) for row in rows]
    return json_response(NotificationsOut(listed, next_cursor(last)))


ROUTES: Final = (
    Route(
        "GET",
        "/api/notifications",
        recent,
        "List notifications",
        NotificationsOut,
        params=(SUBJECT, LIMIT, BEFORE),
        problems=(400,),
        tag="notifications",
    ),
)
