"""What every view may use: settings and the database, under one key of the application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from app.clock import Clock, SystemClock

if TYPE_CHECKING:
    from app.db.engine import Database
    from app.settings import Settings
    from web.canary import CanaryControl


@dataclass(frozen=True)
class Context:
    """The outside world of the web role; `clock` is replaced in tests.

    `canary` is None where nothing follows control topics.
    """

    settings: Settings
    db: Database
    clock: Clock = field(default_factory=SystemClock)
    canary: CanaryControl | None = None


ErrorPage = Callable[[str, str, int], web.Response]
"""Makes the HTML answer of a failed page: title, detail, status."""

ERROR_PAGE: web.AppKey[ErrorPage] = web.AppKey("error_page", Callable)  # type: ignore[arg-type]
CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
