"""All invariants, in the order in which they are reported."""

from __future__ import annotations

from chaos.auditor.invariants import (
    actions,
    deadletters,
    events,
    notices,
    orders,
    payments,
    stock,
    tables,
)
from chaos.auditor.invariants.invariant import Book, Invariant, Kind

CATALOGUE: tuple[Invariant, ...] = (
    *orders.INVARIANTS,
    *payments.INVARIANTS,
    *stock.INVARIANTS,
    *events.INVARIANTS,
    *deadletters.INVARIANTS,
    *tables.INVARIANTS,
    *notices.INVARIANTS,
    *actions.INVARIANTS,
)

__all__ = ["CATALOGUE", "Book", "Invariant", "Kind"]
