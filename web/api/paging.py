"""Paging by key: `limit` and an opaque `before` cursor, checked."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from app import ids
from app.db.cursor import NEWEST, Cursor
from web.problems import Problem
from web.routes import Param

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
DIGITS_MAX: Final = 9
"""More are not read: leading zeros mean nothing, and Python reads no more than 4300 digits."""
LIMIT: Final = Param(
    "limit",
    Annotated[int, Meta(ge=1, le=LIMIT_MAX)],
    f"how many, at most {LIMIT_MAX}; {LIMIT_DEFAULT} when absent",
)
BEFORE: Final = Param("before", str, "`next` of an earlier answer")


def page_of(request: web.Request) -> tuple[int, Cursor]:
    """Return limit and place of a list request; raises Problem 400 for bad parameters."""
    return limit_of(request), cursor_of(request.query.get("before", ""))


def limit_of(request: web.Request) -> int:
    """Return the `limit` parameter, 1 to LIMIT_MAX; raises Problem 400 otherwise."""
    text = request.query.get("limit", str(LIMIT_DEFAULT))
    plain = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
    limit = int(text) if plain else 0
    if not 1 <= limit <= LIMIT_MAX:
        raise Problem(400, "bad_parameter", f"limit must be a number from 1 to {LIMIT_MAX}.")
    return limit


def next_cursor(place: Cursor | None) -> str | None:
    """Return the opaque text of a place, or None."""
    if place is None:
        return None
    micros = round(place.at.timestamp() * 1_000_000)
    return urlsafe_b64encode(f"{micros}/{place.id}".encode()).decode().rstrip("=")


def cursor_of(text: str, name: str = "before", start: Cursor = NEWEST) -> Cursor:
    """Return the place `text` stands for, `start` when empty; raises Problem 400 naming `name`."""
    if not text:
        return start
    try:
        padded = text + "=" * (-len(text) % 4)
        micros, _, row_id = urlsafe_b64decode(padded.encode("ascii")).decode("ascii").partition("/")
        if not ids.is_uuid(row_id):
            raise ValueError("not an id")
        seconds, fraction = divmod(int(micros), 1_000_000)
        at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction)
    except (ValueError, OverflowError, OSError, binascii.Error):
        raise Problem(
            400, "bad_parameter", f"{name} must be a cursor of an earlier answer."
        ) from None
    return Cursor(at, row_id)
