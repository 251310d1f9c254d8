"""The guardian: ends faults whose time is over or whose owner is gone.

`python -m chaos.nemesis.guardian LAB_DIR` is started by the engine in a session of its own, so it
outlives whoever started a fault. One per lab; it ends when no lease is left. What it cannot undo
it says once and tries again, for as long as the lab runs.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from chaos.lab.client import Lab
from chaos.nemesis import lease, ledger
from chaos.nemesis.ledger import Ledger, Phase
from chaos.nemesis.undo import undo

LOOK_S = 0.2
LINGER_S = 2.0
START_S = 60.0
LOCK_S = 1.0
RETRY_S = 0.05


def directory_of(lab_dir: Path) -> Path:
    """Where a lab's leases are."""
    return lab_dir / lease.DIRECTORY


def ensure(lab_dir: Path) -> None:
    """Return when a guardian watches over the leases that are there now."""
    lock = directory_of(lab_dir) / "guardian.lock"
    deadline = time.monotonic() + START_S
    child: subprocess.Popen[bytes] | None = None
    while not _held(lock):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no guardian after {START_S:g} s, see {lock.parent}/guardian.log")
        if child is None or child.poll() is not None:
            child = _start(lab_dir)
        time.sleep(RETRY_S)


def _start(lab_dir: Path) -> subprocess.Popen[bytes]:
    with (directory_of(lab_dir) / "guardian.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "chaos.nemesis.guardian", str(lab_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _held(lock: Path) -> bool:
    """Whether a guardian has the lock; a look is shared, so that no other look sees it as one."""
    with lock.open("a") as file:
        return not _locked(file, fcntl.LOCK_SH)


def _locked(file: IO[str], how: int) -> bool:
    """Whether the lock was free and `file` has it now."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def watch(lab_dir: Path) -> None:
    """End what is due until there is no lease left; returns soon when another one watches.

    A lease that is written while this one ends is seen: it looks again after it let the lock go.
    One that cannot be read is told in guardian.log and keeps no other fault from being undone.
    """
    directory = directory_of(lab_dir)
    unreadable: set[Path] = set()
    while True:
        with (directory / "guardian.lock").open("a") as lock:
            if not _patiently_locked(lock):
                return
            _watch(Lab(lab_dir), directory, unreadable)
        if not lease.found(directory, unreadable):
            return


def _patiently_locked(lock: IO[str]) -> bool:
    """Lock, or False after LOCK_S: whoever only looks at the lock has it for an instant."""
    deadline = time.monotonic() + LOCK_S
    while not _locked(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(RETRY_S)
    return True


def _watch(lab: Lab, directory: Path, unreadable: set[Path]) -> None:
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < LINGER_S:
        for found in lease.found(directory, unreadable):
            idle_since = time.monotonic()
            if found.due(time.time()) and found.take():
                _end(lab, found)
        time.sleep(LOOK_S)


def _end(lab: Lab, found: lease.Found) -> None:
    """Undo a fault and say so; what its owner left unsaid is said too.

    A fault that is not undone keeps its lease, unless the lab has ended and took it along.
    """
    book = Ledger(lab.files.root / ledger.NAME)
    why = "its owner has ended" if found.orphaned else "its lease is over"
    trouble = undo(lab, found.steps)
    book.conclude(found.deed, Phase.VOID, f"{why} before its effect was seen")
    if not trouble:
        book.conclude(found.deed, Phase.EXPIRED, why)
        found.close()
        return
    book.conclude(found.deed, Phase.NOT_UNDONE, "; ".join([why, *trouble]))
    if lab.running():
        found.give_back()
    else:
        found.close()


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
