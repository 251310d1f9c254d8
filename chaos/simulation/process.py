"""Processes of a simulation: what lives and dies together."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class WorkerEnded(BaseException):
    """This process has ended; nothing it still does has an effect."""


class Process:
    """What lives and dies together: one worker, one client, or the servers (the kernel)."""

    __slots__ = ("alive", "frozen", "name", "queued", "ready", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.queued = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return f"Process({self.name})"


KERNEL = Process("kernel")
"""Stands in where no process is set; every loop has a kernel of its own."""

current_process: ContextVar[Process] = ContextVar("process", default=KERNEL)


def current() -> Process:
    """Return the process whose code is running."""
    return current_process.get()
