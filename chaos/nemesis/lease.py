"""Leases of faults: files that say until when a fault may last and how it is undone, as data.

Guarantees: a lease is on disk before its fault acts, and every step of its undoing before the act
that needs it. Whoever takes the lease undoes the fault; only one can. Steps stand in
`chaos.nemesis.undo` and may be repeated.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from chaos.lab.process import ProcessRecord
from chaos.nemesis.ledger import Deed

DIRECTORY = "nemesis"
HELD, TAKEN = ".lease", ".taken"

Step = dict[str, Any]


class Lease:
    """One fault's lease, held by the process that made it."""

    def __init__(self, directory: Path, deed: Deed) -> None:
        """Write the lease; it expires `deed.lease_s` from now."""
        self.deed = deed
        self.expires_at_s = time.time() + deed.lease_s
        self.steps: list[Step] = []
        self._owner = ProcessRecord.of(deed.action, os.getpid())
        self._path = directory / f"{deed.action}{HELD}"
        directory.mkdir(parents=True, exist_ok=True)
        self._save()

    def add(self, step: Step) -> None:
        """One more step of the undoing; the last one added is undone first."""
        self.steps.append(step)
        self._save()

    def take(self) -> bool:
        """Take the right to undo; False when somebody else has it."""
        return _take(self._path)

    def close(self) -> None:
        """The fault is undone."""
        self._path.with_suffix(TAKEN).unlink(missing_ok=True)

    def give_back(self) -> None:
        """The fault could not be undone: from now on anybody may try."""
        self.expires_at_s = time.time()
        self._save(TAKEN)
        _give_back(self._path)

    @property
    def over(self) -> bool:
        """Whether the fault is undone, by whomever."""
        return not (self._path.exists() or self._path.with_suffix(TAKEN).exists())

    def _save(self, suffix: str = HELD) -> None:
        assert self._owner is not None
        owner = {"name": "", "pid": self._owner.pid, "started_at": self._owner.started_at}
        document = {
            "deed": self.deed._asdict(),
            "expires_at_s": self.expires_at_s,
            "owner": owner,
            "steps": self.steps,
        }
        scratch = self._path.with_suffix(".new")
        with scratch.open("w") as file:
            json.dump(document, file, default=str)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(self._path.with_suffix(suffix))


class Found:
    """A lease as the guardian finds it."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self._path = path
        self.deed = Deed(**document["deed"])
        self.expires_at_s = float(document["expires_at_s"])
        self.steps: list[Step] = document["steps"]
        self._owner = ProcessRecord(**document["owner"])

    @property
    def orphaned(self) -> bool:
        """Whether its owner has ended, whether or not it had begun to undo the fault."""
        return not self._owner.alive()

    def due(self, now_s: float) -> bool:
        """Whether somebody else than the owner must end this fault now."""
        if self._path.suffix == TAKEN:
            return self.orphaned
        return self.orphaned or now_s > self.expires_at_s

    def take(self) -> bool:
        """Take the right to undo; an orphan's may be taken although it was taken before."""
        return self._path.suffix == TAKEN or _take(self._path)

    def close(self) -> None:
        """The fault is undone."""
        self._path.with_suffix(TAKEN).unlink(missing_ok=True)

    def give_back(self) -> None:
        """The fault could not be undone, and is due again."""
        _give_back(self._path)


def _give_back(path: Path) -> None:
    path.with_suffix(TAKEN).rename(path.with_suffix(HELD))


def _take(path: Path) -> bool:
    try:
        path.rename(path.with_suffix(TAKEN))
    except FileNotFoundError:
        return False
    return True


def found(directory: Path, unreadable: set[Path] | None = None) -> list[Found]:
    """Every lease there is, oldest first. Raises ValueError, TypeError or KeyError for one that
    nobody can read; with `unreadable` it is put there instead, and told once on standard error.
    """
    leases = []
    for path in sorted(directory.glob("*")) if directory.exists() else []:
        if path.suffix not in (HELD, TAKEN):
            continue
        try:
            leases.append(Found(path, json.loads(path.read_text())))
        except FileNotFoundError:
            continue  # its owner has just taken or closed it
        except (ValueError, TypeError, KeyError) as error:
            if unreadable is None:
                raise
            if path not in unreadable:
                unreadable.add(path)
                sys.stderr.write(f"{path} cannot be read, undo its fault by hand: {error!r}\n")
    return sorted(leases, key=lambda one: one.expires_at_s)
