"""One JSON line per fact on standard output.

A line that cannot be written (full disk, reader gone) is lost: a fault must end all the same.
"""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import UTC, datetime


def say(event: str, **fields: object) -> None:
    """Write one line: time, event, fields."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
