"""The guardian: ends faults whose time is over or whose owner is gone.

`python -m chaos.nemesis.guardian LAB_DIR` is started by the engine in a session of its own, so it
outlives whoever started a fault. One per lab; it ends when no lease is left.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path

from chaos.lab.client import Lab
from chaos.nemesis import lease, ledger
from chaos.nemesis.ledger import Ledger, Phase
from chaos.nemesis.undo import undo

LOOK_S = 0.2
LINGER_S = 2.0
START_S = 10.0


def directory_of(lab_dir: Path) -> Path:
    """Where a lab's leases are."""
    return lab_dir / lease.DIRECTORY


def ensure(lab_dir: Path) -> None:
    """Return when a guardian watches over the leases that are there now."""
    lock = directory_of(lab_dir) / "guardian.lock"
    deadline = time.monotonic() + START_S
    if _held(lock):
        return
    with (directory_of(lab_dir) / "guardian.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "chaos.nemesis.guardian", str(lab_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not _held(lock):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no guardian after {START_S:g} s, see {lock.parent}/guardian.log")
        time.sleep(0.05)


def _held(lock: Path) -> bool:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def watch(lab_dir: Path) -> None:
    """End what is due until there is no lease left; returns at once when another one watches.

    A lease that is written while this one ends is seen: it looks again after it let the lock go.
    """
    directory = directory_of(lab_dir)
    while True:
        with (directory / "guardian.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            _watch(Lab(lab_dir), directory)
        if not lease.found(directory):
            return


def _watch(lab: Lab, directory: Path) -> None:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < LINGER_S:
        for found in lease.found(directory):
            idle_since = time.monotonic()
            if found.due(time.time()) and found.take():
                _end(lab, found)
        time.sleep(LOOK_S)


def _end(lab: Lab, found: lease.Found) -> None:
    """Undo a fault and say so; what its owner left unsaid is said too."""
    book = Ledger(lab.files.root / ledger.NAME)
    why = "its owner has ended" if found.orphaned else "its lease is over"
    trouble = undo(lab, found.steps)
    book.conclude(found.deed, Phase.VOID, f"{why} before its effect was seen")
    book.conclude(found.deed, Phase.EXPIRED, "; ".join([why, *trouble]))
    found.close()


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
