"""The lock file of a lab's one GameDay: whoever has it goes on, whatever the history says.

The kernel frees it when its process ends, and it stands while PostgreSQL is frozen or away.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from chaos.gameday.errors import GameDayError

DIRECTORY = "gamedays"
TRIES, TRY_S = 5, 0.05
"""Whoever asks `held` has the lock for a moment."""


def alone(root: Path) -> IO[str]:
    """Hold the lock of the lab at `root` until the file is closed or this process ends.

    Raises GameDayError when another process has it.
    """
    path = _path(root)
    path.parent.mkdir(exist_ok=True)
    file = path.open("a+")
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_S)
        else:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            return file
    file.close()
    pid = holder(root) or "unknown"
    raise GameDayError(f"a GameDay goes on in {root} (pid {pid}): see `symphony gameday status`")


def held(root: Path) -> bool:
    """Whether a GameDay goes on in the lab at `root`."""
    try:
        file = _path(root).open()
    except (FileNotFoundError, NotADirectoryError):
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def holder(root: Path) -> str:
    """The process id that its last holder wrote; empty when there was none."""
    path = _path(root)
    return path.read_text().strip() if path.exists() else ""


def _path(root: Path) -> Path:
    return root / DIRECTORY / "lock"
