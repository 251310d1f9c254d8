"""Fail-stop: how a worker ends itself, and how its successor learns why.

Nothing unfinished was acknowledged when a worker ends, so the next one resumes at the watermark.
The reason is left in a file because a dying process cannot rely on its event loop; the successor
records it in PostgreSQL, where the killer journal counts it (`app.delivery.killer`).
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from app.observability.logging import last_words

EXIT_CODE = 70
"""sysexits EX_SOFTWARE: the supervisor starts a new incarnation."""
EXIT_REWIND = 75
"""sysexits EX_TEMPFAIL: stopped in good order to read again from an earlier position; whoever keeps
the worker starts it anew at once and holds nothing against it."""


class Reason(StrEnum):
    """Why a worker ended itself. Only FAILURE and UNCLEAN count against a record."""

    FAILURE = "failure"
    WATCHDOG = "watchdog"
    LEASE = "lease"
    DRAIN = "drain"
    OUTAGE = "outage"
    STORE = "store"
    STOPPED = "stopped"
    REWIND = "rewind"
    UNCLEAN = "unclean"


_markers: dict[Path, str] = {}
"""Where this process leaves its reason, and the incarnation it speaks of: one worker, or one for
each role of a monolith."""


_wanted: list[Reason] = []
"""Why this process is to stop in good order, when it is not somebody else's wish."""


def stop_for(reason: Reason) -> None:
    """Say why this process, which is about to stop in good order, does so."""
    _wanted[:] = [reason]


def stop_reason() -> Reason:
    """Why this process stops, or would, in good order."""
    return _wanted[0] if _wanted else Reason.STOPPED


def stop_code() -> int:
    """The exit code of this process when it has stopped in good order."""
    return EXIT_REWIND if stop_reason() is Reason.REWIND else 0


def configure(data_dir: Path, worker_id: str, incarnation: str) -> None:
    """Say where this worker leaves its reason; another worker of this process says so too."""
    data_dir.mkdir(parents=True, exist_ok=True)
    _markers[data_dir / f"exit-{worker_id}.json"] = incarnation


def read_reason(data_dir: Path, worker_id: str, incarnation: str) -> Reason:
    """The reason that `incarnation` left, UNCLEAN when it left none (kill -9, a crash)."""
    try:
        said = json.loads((data_dir / f"exit-{worker_id}.json").read_text())
        return Reason(said["reason"]) if said["incarnation"] == incarnation else Reason.UNCLEAN
    except (OSError, ValueError, KeyError, TypeError):
        return Reason.UNCLEAN


def leave_reason(reason: Reason, why: str) -> None:
    """Write the marker files; best effort, because the disk may be the very problem."""
    for path, incarnation in _markers.items():
        left = {"incarnation": incarnation, "reason": reason, "why": why}
        try:
            path.write_text(json.dumps(left))
        except OSError as error:
            text = f"[delivery] cannot write {path}: {error}"
            last_words("worker.reason_not_left", text, None, path=str(path), why=str(error))


def end_process(reason: Reason, why: str) -> NoReturn:
    """End this process now with exit code 70, without running any clean-up.

    Clean-up would let Faust acknowledge or commit on the way out. Safe from any thread.
    """
    leave_reason(reason, why)
    last_words(
        "worker.ended",
        f"[delivery] exit {EXIT_CODE} ({reason}): {why}",
        sys.exc_info()[1],
        reason=reason.value,
        why=why,
        exit_code=EXIT_CODE,
    )
    os._exit(EXIT_CODE)
