"""What a request about dead letters says, checked: topic, id, numbers, place, body."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from app import ids
from app.db import deadletters
from app.db.cursor import Cursor
from app.topics import dead_letter_topic
from web.api.bodies import decode, read_json
from web.api.paging import cursor_of
from web.context import CONTEXT
from web.problems import Problem, not_found

LISTED_DEFAULT: Final = 20
STATUSES: Final = tuple(status.lower() for status in deadletters.STATUSES)


def topic_of(request: web.Request) -> str:
    """Return the dead-letter topic that the path names, in whatever spelling; Problem 404."""
    return known_topic(request.match_info["topic"])


def known_topic(name: str) -> str:
    """Return the dead-letter topic that `name` means; raises Problem 404 for an unknown one."""
    found = dead_letter_topic(name)
    if found is None:
        shown = name[:100] if name.isprintable() else "that name"
        raise Problem(
            404,
            "unknown_topic",
            f"There is no dead-letter topic {shown}; they are called as payment.requested.dlt.",
        )
    return found


def id_of(request: web.Request, what: str) -> str:
    """Return the id in the path; raises Problem 404 when it cannot be one."""
    found = request.match_info["id"].lower()
    if not ids.is_uuid(found):
        raise not_found(what)
    return found


def number_of(
    request: web.Request, name: str, least: int, most: int, default: int | None = None
) -> int:
    """Return a whole number of the query; raises Problem 400 for anything else."""
    text = request.query.get(name)
    if text is None and default is not None:
        return min(default, most)
    plain = text is not None and text.isascii() and text.isdigit() and len(text) <= 19
    if not plain or not least <= int(text or "") <= most:
        raise Problem(400, "bad_parameter", f"{name} must be a number from {least} to {most}.")
    return int(text or "")


def limit_of(request: web.Request, name: str = "limit") -> int:
    """Return how many are to be listed, at most `dlq_list_max`; raises Problem 400."""
    return number_of(request, name, 1, request.app[CONTEXT].settings.dlq_list_max, LISTED_DEFAULT)


def place_of(request: web.Request) -> Cursor | None:
    """Return the place that `after` names, None when absent; raises Problem 400."""
    text = request.query.get("after", "")
    if not text:
        return None
    try:
        return cursor_of(text)
    except Problem:
        raise Problem(400, "bad_parameter", "after must be `next` of an earlier answer.") from None


async def optional(request: web.Request, decoder: Any, default: Any) -> Any:
    """Return the decoded body, `default` when there is none."""
    return decode(decoder, await read_json(request)) if request.body_exists else default
