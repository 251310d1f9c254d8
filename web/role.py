"""The wiring of role `web`: one server beside the Faust application, no agents, no tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.canary import CanaryControl
from web.context import Context
from web.server import WebServer

if TYPE_CHECKING:
    from app.delivery.app import App


def register(app: App) -> None:
    """Have `app` start and stop the web server with itself; `app.db` must be open by then."""

    def context() -> Context:
        return Context(app.settings, app.db, app.clock, canary)

    canary = CanaryControl(context)
    app.service(canary)
    app.service(WebServer(context, app.web_extensions))
