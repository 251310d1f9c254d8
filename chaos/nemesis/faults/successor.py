"""Proof that a process is gone and that another one serves in its place."""

from __future__ import annotations

from chaos.lab.client import Row
from chaos.lab.process import LabError, ProcessRecord
from chaos.nemesis.faults.fault import Run, seen

GONE_S = 30.0


def note(run: Run, name: str) -> None:
    """Remember the process that runs under `name` now. Raises LabError when none does."""
    record = ProcessRecord.of(name, run.world.pid(name))
    if record is None:
        raise LabError(f"{name} has just ended")
    run.notes[name] = record


def gone(run: Run, name: str) -> str:
    """Return once the noted process has ended. Raises Unproved."""
    old: ProcessRecord = run.notes[name]
    seen(f"the end of {name} (pid {old.pid})", lambda: not old.alive(), GONE_S)
    return f"pid {old.pid} is gone"


def succeeded(run: Run, name: str) -> str:
    """Return once the noted process has ended and another serves. Raises Unproved."""
    evidence = gone(run, name)
    old: ProcessRecord = run.notes[name]

    def serving() -> Row | None:
        row = run.world.lab.process(name)
        return row if row["state"] == "ready" and row["pid"] not in (None, old.pid) else None

    row = seen(f"a successor of {name} that serves", serving)
    incarnation = f", incarnation {row['incarnation']}" if row.get("incarnation") else ""
    return f"{evidence} ({row['last_exit']}), pid {row['pid']} serves{incarnation}"
