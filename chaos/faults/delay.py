"""Fault `delay`: the code path stands still for a while; the event loop goes on."""

from __future__ import annotations

import asyncio
import re

from app.failpoints import Hit
from chaos.faults.fault import BadFault, Strike

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
_SECONDS = {"ms": 0.001, "s": 1.0}


def build(argument: str) -> Strike:
    """`delay:250ms` or `delay:2s`."""
    found = _DURATION.fullmatch(argument)
    if found is None:
        raise BadFault(f"fault delay takes a time like 250ms or 2s, got {argument!r}")
    delay_s = float(found[1]) * _SECONDS[found[2]]

    async def strike(hit: Hit) -> None:
        del hit
        await asyncio.sleep(delay_s)

    return strike
