"""The plug-in of a lab's workers for GameDays: their API in role web, their metrics in role slo."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Serve /api/gameday in role web; show phase and faults in role slo."""
    if app.role.name == "web":
        from chaos.gameday.web import extend

        app.web_extensions.append(extend)
    elif app.role.name == "slo":
        from chaos.gameday.gauges import GameDayGauges

        app.service(GameDayGauges(app))
