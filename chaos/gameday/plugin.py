"""The plug-in of a lab's workers that adds GameDays to the API; nothing in other roles than web."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Serve /api/gameday in role web."""
    if app.role.name == "web":
        from chaos.gameday.web import extend

        app.web_extensions.append(extend)
