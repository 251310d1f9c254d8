"""Plug-in: the orchestrator notes the outputs of a timer as sent before they are.

Cure removed: an inbox row of a timer stays TICKED until its outputs are acknowledged, so that
whoever owns the partition next publishes them.
Hurts when: the worker dies after the commit of a tick: no record brings the timer back.
Breaks: X1 (a decided output is nowhere), X4 (a change of status that was never announced).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.db import inbox
from app.db.engine import Transaction
from app.db.inbox import Claim, Status
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App

_claim = inbox.claim


async def claim_as_sent(tx: Transaction, consumer: str, claims: Sequence[Claim]) -> None:
    """Extends the claim: TICKED is DONE."""
    done = [
        one._replace(status=Status.DONE) if one.status is Status.TICKED else one for one in claims
    ]
    await _claim(tx, consumer, done)


def install(app: App) -> None:
    """Have the orchestrator forget the outputs of timers."""
    if unsafe(app, __name__, "kept outputs of timers", "orchestrator"):
        replace(inbox, "claim", claim_as_sent)
