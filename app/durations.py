"""Durations as people write them: `90s`, `5m`, `1h30m`, or ISO 8601 `PT5M`."""

from __future__ import annotations

import re
from typing import Final

_PART: Final = r"(?:(?P<h>\d{1,6})h)?(?:(?P<m>\d{1,6})m)?(?:(?P<s>\d{1,6}(?:\.\d{1,3})?)s)?"
_DURATION: Final = re.compile(f"(?:pt)?{_PART}", re.ASCII)
_UNITS_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0}


def seconds_of(text: str) -> float:
    """Return the seconds that `text` names; raises ValueError that says how to write it."""
    found = _DURATION.fullmatch(text.strip().lower())
    parts = [] if found is None else [(u, n) for u, n in found.groupdict().items() if n]
    if not parts:
        raise ValueError(f"{text[:40]!r} is no duration: write 90s, 5m, 1h30m or PT5M")
    return sum(float(number) * _UNITS_S[unit] for unit, number in parts)
