"""Durations as people write them: `5m`, `1h30m`, or ISO 8601 `PT5M`. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_SHORT = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
_ISO = re.compile(r"P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?", re.ASCII)
_SECONDS = (86_400, 3_600, 60, 1)
_DAYS_MAX = 36_500


def parse_duration(text: str) -> timedelta:
    """Return what `text` says, always more than 0; raises ValueError, in words for a person.

    Days, hours, minutes and seconds, in this order, as whole numbers; a month has no fixed length.
    """
    found = _SHORT.fullmatch(text) or _ISO.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError(f"{text[:40]!r} is no duration: write it like 90s, 5m, 1h30m or PT5M")
    total_s = sum(
        int(digits or 0) * unit_s for digits, unit_s in zip(found.groups(), _SECONDS, strict=True)
    )
    if total_s == 0:
        raise ValueError("a duration must be more than 0")
    if total_s > _DAYS_MAX * _SECONDS[0]:
        raise ValueError(f"a duration is at most {_DAYS_MAX} days")
    return timedelta(seconds=total_s)
