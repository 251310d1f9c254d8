"""Places in lists that are ordered by time, then id: where the next part of a list begins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple


class Cursor(NamedTuple):
    """The last row that was told: continue behind it, in the direction in which the list goes."""

    at: datetime
    id: str


NEWEST = Cursor(datetime.max.replace(tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff")
"""Before every row of a list that is ordered newest first."""
OLDEST = Cursor(datetime.min.replace(tzinfo=UTC), "00000000-0000-0000-0000-000000000000")
"""Behind every one."""
