"""Plug-in: payment drops what it cannot read.

Cure removed: an undecodable record becomes a dead letter.
Hurts when: somebody writes nonsense to its topic.
Breaks: E2 (committed and never taken in), E1 (a silent skip), E3 (an event that nothing caused and
nobody refused).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from aiokafka.structs import ConsumerRecord

from app.delivery import step
from app.delivery.decoding import decode_records
from app.delivery.effects import Finished
from app.delivery.events import Event
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App


def decode_or_drop(
    records: Iterable[ConsumerRecord], *, role: str, now: datetime
) -> tuple[list[Event], list[Finished]]:
    """Extends decoding: no dead letters."""
    events, _ = decode_records(records, role=role, now=now)
    return events, []


def install(app: App) -> None:
    """Have payment drop poison."""
    if unsafe(app, __name__, "dead letters of unreadable records", "payment"):
        replace(step, "decode_records", decode_or_drop)
