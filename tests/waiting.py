"""Waiting in tests: until a condition holds, never for a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | None], *, timeout_s: float, what: str, every_s: float = 0.05
) -> T:
    """The first truthy value of `condition`; AssertionError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(every_s)


async def eventually(
    condition: Callable[[], Awaitable[T | None]],
    *,
    timeout_s: float,
    what: str,
    every_s: float = 0.05,
) -> T:
    """Like `wait_until` for a coroutine function, leaving the event loop free in between."""
    deadline = time.monotonic() + timeout_s
    while True:
        if value := await condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(every_s)
