"""How much a proxy may keep of what it has read and not delivered.

A direction may hold `LINK_MAX_BYTES`; when all together hold `TOTAL_MAX_BYTES`, each only
`LINK_MIN_BYTES`. Whoever is above is not read until it is below: the sender feels it. One read
(at most 256 KiB) may go over.
"""

from __future__ import annotations

LINK_MAX_BYTES = 1024 * 1024
LINK_MIN_BYTES = 64 * 1024
TOTAL_MAX_BYTES = 64 * 1024 * 1024


class Memory:
    """The bytes that all directions of all proxies hold."""

    def __init__(self, total_max_bytes: int = TOTAL_MAX_BYTES) -> None:
        self.held = 0
        self._total_max = total_max_bytes

    def room(self, held_by_link: int) -> bool:
        """Whether a direction that holds so much may be read on."""
        most = LINK_MAX_BYTES if self.held < self._total_max else LINK_MIN_BYTES
        return held_by_link < most
