"""The wiring of role `web`: one server beside the Faust application, no agents, no tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.context import Context
from web.server import WebServer

if TYPE_CHECKING:
    from app.delivery.app import App


def register(app: App) -> None:
    """Have `app` start and stop the web server with itself; `app.db` must be open by then."""
    app.service(WebServer(lambda: Context(app.settings, app.db, app.clock), app.web_extensions))
