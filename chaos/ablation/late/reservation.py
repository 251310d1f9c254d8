"""Plug-in of a lab: reservations come late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.ablation.late.first_delivery import hold_back

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Hold back the first delivery of every inventory.requested."""
    hold_back(app, "inventory", "inventory.requested", lambda _: True)
