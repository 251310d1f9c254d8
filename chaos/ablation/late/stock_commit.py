"""Plug-in of a lab: stock commits come late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.ablation.late.first_delivery import hold_back

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Hold back the first delivery of every inventory.commit."""
    hold_back(app, "inventory", "inventory.commit", lambda _: True)
