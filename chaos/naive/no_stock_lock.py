"""Plug-in: inventory reads stock rows without locking them, and writes what it then computed.

Cure removed: `FOR UPDATE` between reading a quantity and writing it.
Hurts when: two workers take the same product at the same time: the later write undoes the earlier.
Breaks: S1 (the stock row does not sum up to its reservations), S2 (a unit is sold twice).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.db import inventory
from app.db.statements import Statement
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App

LOCK = "FOR UPDATE"


def install(app: App) -> None:
    """Take the row locks from inventory."""
    if unsafe(app, __name__, "row locks on stock", "inventory"):
        locked = inventory._LOCK
        if LOCK not in locked.sql:
            raise ValueError(f"no lock to take out of: {locked.sql}")
        without = Statement(locked.sql.replace(LOCK, ""), locked.names, {}, {})
        replace(inventory, "_LOCK", without)
