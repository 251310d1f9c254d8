"""The lock file that says whether a GameDay goes on in a lab."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from chaos.gameday import lock
from chaos.gameday.errors import GameDayError
from chaos.gameday.lock import alone


def test_the_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    """Nobody else gets it meanwhile, and the refusal names the process."""
    assert not lock.held(tmp_path / "no lab")
    assert not lock.held(tmp_path)
    with alone(tmp_path):
        assert lock.held(tmp_path)
        with pytest.raises(GameDayError, match=f"pid {os.getpid()}"):
            alone(tmp_path)
    assert not lock.held(tmp_path)
    alone(tmp_path).close()


def test_whoever_looks_hinders_nobody_who_begins(tmp_path: Path) -> None:
    """A look has the lock for a moment: a beginner tries again."""
    alone(tmp_path).close()
    with (tmp_path / lock.DIRECTORY / "lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        assert not lock.held(tmp_path), "two looks do not hinder each other"
        threading.Timer(lock.TRY_S, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        with alone(tmp_path):
            assert lock.held(tmp_path)
