"""Loops that a worker needs as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.observability.logging import get_log

log = get_log(__name__)


async def keep_on(name: str, once: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Await `once` every `every_s` seconds, until it returns True or this is cancelled.

    What it raises ends nothing: it is logged, once as long as it stays the same. For what must go
    on and can be done again at any time; a loop that may leave work half done ends its process.
    """
    said = ""
    while True:
        await asyncio.sleep(every_s)
        try:
            if await once() is True:
                return
            said = ""
        except Exception as error:
            if (reason := f"{type(error).__name__}: {error}") != said:
                log.error("loop.failed", loop=name, error=error)
                said = reason
