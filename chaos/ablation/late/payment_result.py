"""Plug-in of a lab: the orchestrator gets to know late that a charge succeeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.ablation.late.first_delivery import hold_back

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Hold back the first delivery of every success of a charge."""
    hold_back(
        app,
        "orchestrator",
        "payment.result",
        lambda body: body.operation == "charge" and body.outcome == "OK",
    )
