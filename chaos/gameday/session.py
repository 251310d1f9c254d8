"""Which GameDay goes on in this process: Chaos Toolkit calls bare functions of modules."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.gameday.game import Game

_game: Game | None = None
_here = threading.local()


class NoGameDay(Exception):
    """An action or a probe was called outside a GameDay."""


def begin(game: Game) -> None:
    """From now on actions and probes act on `game`."""
    global _game  # noqa: PLW0603 (the one place where Chaos Toolkit's style meets ours)
    _game = game


def end() -> None:
    """No GameDay goes on."""
    global _game  # noqa: PLW0603
    _game = None


def going_on() -> Game | None:
    """The present GameDay, if there is one."""
    return _game


def current() -> Game:
    """The present GameDay. Raises NoGameDay."""
    if _game is None:
        raise NoGameDay(
            "no GameDay goes on: the experiment needs the control chaos.gameday.control"
        )
    return _game


def enter(activity: str) -> None:
    """The calling thread carries out this activity."""
    _here.activity = activity


def activity() -> str:
    """Which activity the calling thread carries out."""
    return str(getattr(_here, "activity", ""))
