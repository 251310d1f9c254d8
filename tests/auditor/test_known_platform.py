"""What the auditor has written down of the platform is true of it."""

from __future__ import annotations

import pytest

from app.topics import DEAD_LETTER_TOPICS, MESSAGE_TOPICS
from chaos.auditor.platform import FAMILIES, RETRY_TIERS

pytestmark = pytest.mark.unit


def test_every_topic_that_can_hold_a_message_is_read() -> None:
    """The index of dead letters tells of all of them, so an unread one would look like a defect."""
    unread = [
        name
        for name in (*MESSAGE_TOPICS, *DEAD_LETTER_TOPICS, *RETRY_TIERS)
        if not name.startswith(FAMILIES)
    ]
    assert unread == []
