"""Plug-in: inventory marks a reservation as released and gives nothing back.

Cure removed: reservation and stock change in one decision.
Hurts when: an order is cancelled after its reservation. No fault is needed.
Breaks: S1 (the stock row does not sum up to its reservations).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.domain import inventory as domain
from app.domain.inventory import Decision, Reservation, Stock
from app.messages import InventoryRelease
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App

_release = domain._release


def release_nothing(
    reservation: Reservation | None,
    stock: Mapping[str, Stock],
    command_id: str,
    body: InventoryRelease,
) -> Decision:
    """Extends the release: the stock rows stay as they are."""
    return _release(reservation, stock, command_id, body)._replace(stock=())


def install(app: App) -> None:
    """Have inventory leak."""
    if unsafe(app, __name__, "a release gives the stock back", "inventory"):
        replace(domain, "_release", release_nothing)
