"""Parameters that narrow a list, checked: what is not understood is a 400, never ignored."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from web.problems import Problem
from web.routes import Param

CUSTOMER_MAX: Final = 100
SECONDS_MAX: Final = 10 * 365 * 86_400


def choice(name: str, known: Collection[str], meaning: str) -> Param:
    """Declare a parameter that is one of `known`."""
    return Param(name, Annotated[str, Meta(extra_json_schema={"enum": list(known)})], meaning)


def instant(name: str, meaning: str) -> Param:
    """Declare a parameter that is a time."""
    schema: dict[str, Any] = {"format": "date-time"}
    return Param(name, Annotated[str, Meta(extra_json_schema=schema)], meaning)


def choice_of(request: web.Request, name: str, known: Collection[str]) -> str:
    """Return the parameter, empty when absent; raises Problem 400 unless it is one of `known`."""
    given = request.query.get(name)
    if given is None:
        return ""
    if given not in known:
        raise Problem(400, "bad_parameter", f"{name} must be one of {', '.join(known)}.")
    return given


def text_of(request: web.Request, name: str, longest: int = CUSTOMER_MAX) -> str:
    """Return the parameter, empty when absent; raises Problem 400 for what no name can be."""
    given = request.query.get(name)
    if given is None:
        return ""
    if not 0 < len(given) <= longest or not given.isprintable():
        raise Problem(400, "bad_parameter", f"{name} must be 1-{longest} printable characters.")
    return given


def flag_of(request: web.Request, name: str) -> bool:
    """Return the parameter, false when absent; raises Problem 400 for another word."""
    given = request.query.get(name, "false")
    if given not in ("true", "false"):
        raise Problem(400, "bad_parameter", f"{name} must be true or false.")
    return given == "true"


def seconds_of(request: web.Request, name: str) -> float | None:
    """Return a duration, None when absent; raises Problem 400 unless 0 to SECONDS_MAX."""
    given = request.query.get(name)
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= SECONDS_MAX:
        raise Problem(400, "bad_parameter", f"{name} must be seconds from 0 to {SECONDS_MAX}.")
    return seconds


def instant_of(request: web.Request, name: str) -> datetime | None:
    """Return a time, None when absent; raises Problem 400 unless it is ISO 8601 with its offset."""
    given = request.query.get(name)
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
        if at.tzinfo is None:
            raise ValueError("no offset")
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Problem(
            400, "bad_parameter", f"{name} must be a time as 2026-11-28T12:00:00Z (%2B for a +)."
        ) from None
