"""What keeps a GameDay from beginning, or a question about one from an answer."""

from __future__ import annotations


class GameDayError(Exception):
    """It cannot be done; the text says why and what to do."""
