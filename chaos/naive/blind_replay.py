"""Plug-in: an operator's tool sends dead letters back as new events.

Cure removed: a redriven record keeps its id and says how often it was sent back.
Hurts when: dead letters are sent back: the participant answers a command that nobody gave, and the
saga takes the answer for foreign.
Breaks: X2 (events that were never committed).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import msgspec

from app.messages import deadletter
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App
    from app.messages import Output
    from app.messages.deadletter import ConsumedRecord


def redrive(letter: ConsumedRecord, *, not_after: datetime | None = None) -> Output:
    """Replaces the redrive: another id, and nothing about the first time."""
    output = deadletter.redrive(letter, not_after=not_after)
    fresh = str(uuid5(NAMESPACE_URL, f"{letter.topic}/{letter.partition}/{letter.offset}"))
    headers = [
        (name, fresh.encode() if name == "ce_id" else value)
        for name, value in output.headers
        if name != deadletter.REDRIVES
    ]
    return msgspec.structs.replace(output, headers=headers)


def install(app: App) -> None:
    """Warn: the tool is the laboratory's, no worker changes."""
    unsafe(app, __name__, "redriven records keep their ids", "dlq")
