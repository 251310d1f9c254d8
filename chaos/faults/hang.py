"""Fault `hang`: the code path stands still until the fault is removed or the process ends."""

from __future__ import annotations

import asyncio

from app import failpoints
from app.failpoints import Hit
from chaos.faults.fault import BadFault, Strike

LOOK_S = 0.02


def build(argument: str) -> Strike:
    """`hang` takes no argument. The event loop goes on: heartbeats, other batches, the watchdog."""
    if argument:
        raise BadFault(f"fault hang takes no argument, got {argument!r}")

    async def strike(hit: Hit) -> None:
        mine = failpoints.action_at(hit.point)
        while mine is not None and failpoints.action_at(hit.point) is mine:
            await asyncio.sleep(LOOK_S)

    return strike
