"""What every fault shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.failpoints import Hit

Strike = Callable[[Hit], Awaitable[None]]


class BadFault(ValueError):
    """A fault cannot be made from what was written."""
