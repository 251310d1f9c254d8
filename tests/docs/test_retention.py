"""The page on retention names every table, and lets nothing be deleted that a topic may repeat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.db.schema import metadata
from app.topics import DAY_S, DEAD_LETTER_RETENTION_S

pytestmark = pytest.mark.unit
PAGE = Path(__file__).parents[2] / "docs" / "retention.md"


def test_every_table_stands_in_one_of_the_lists() -> None:
    """Whoever adds a table says whether it grows."""
    listed = re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE.read_text())
    assert sorted(listed) == sorted(metadata.tables)


def test_what_may_be_deleted_is_older_than_any_topic_keeps() -> None:
    """The longest retention is that of the dead letters."""
    days = [int(one) for one in re.findall(r"interval '(\d+) days'", PAGE.read_text())]
    assert days
    assert min(days) * DAY_S > DEAD_LETTER_RETENTION_S
