"""One JSON line per fact on standard output."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


def say(event: str, **fields: object) -> None:
    """Write one line: time, event, fields."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
