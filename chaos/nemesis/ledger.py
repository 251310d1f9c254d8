"""The nemesis's own ledger: what was done to whom, and whether it was seen to work.

One JSON object a line, appended and synced to disk before the act it announces. Every action that
`started` gets `proved` or `void`, and `ended` or `expired` once it is undone, `not_undone` before
when that did not succeed at once; `skipped` stands alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

NAME = "nemesis.jsonl"


class Phase(StrEnum):
    """What a line says of its action."""

    STARTED = "started"
    PROVED = "proved"
    VOID = "void"
    ENDED = "ended"
    EXPIRED = "expired"
    NOT_UNDONE = "not_undone"
    SKIPPED = "skipped"


class Deed(NamedTuple):
    """What all lines of one action share. `lease_s` counts from its start."""

    action: str
    fault: str
    target: str
    seed: int
    lease_s: float
    params: Mapping[str, Any]


VERDICTS = frozenset({Phase.PROVED, Phase.VOID})
ENDS = frozenset({Phase.ENDED, Phase.EXPIRED})
LEFT = frozenset({Phase.NOT_UNDONE})


class Ledger:
    """An append-only file; several processes may write to it, a line at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, deed: Deed, phase: Phase, detail: str = "") -> float:
        """Append a line and sync it to disk; returns its time in Unix seconds."""
        at_s = time.time()
        line = deed._asdict() | {"phase": phase.value, "at_s": at_s, "detail": detail}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, json.dumps(line, default=str).encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        return at_s

    def conclude(self, deed: Deed, phase: Phase, detail: str = "") -> bool:
        """Write a verdict, an end or that it is not undone, unless the action has one: then False.

        The owner of a fault and the guardian may both try; only one of them succeeds.
        """
        rivals = next(kind for kind in (VERDICTS, ENDS, LEFT) if phase in kind)
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.phases(deed.action) & rivals:
                return False
            self.write(deed, phase, detail)
            return True

    def lines(self) -> list[dict[str, Any]]:
        """All complete lines so far."""
        if not self.path.exists():
            return []
        complete = self.path.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in complete.splitlines()]

    def phases(self, action: str) -> set[Phase]:
        """What the ledger says of an action so far."""
        return {Phase(line["phase"]) for line in self.lines() if line["action"] == action}
