"""Where the books are, and what may go wrong with reading them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class UnreadableError(Exception):
    """A source cannot be read; the text says which and why."""


class Sources(NamedTuple):
    """The parties' books. Without load ledgers nothing is known of what was accepted.

    `notifications` is the sink's book, None where there is no sink of that kind.
    """

    dsn: str
    bootstrap: str
    namespace: str
    load_ledgers: tuple[Path, ...]
    gateway_ledger: Path | None
    nemesis_ledger: Path | None
    losses: Path | None = None
    """Directory of what chaos rules lost on purpose; absent: nothing was."""
    notifications: Path | None = None

    @property
    def notified(self) -> bool:
        """Whether notifications are judged."""
        return self.notifications is not None
