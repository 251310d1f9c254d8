"""Plug-in: the orchestrator writes its inbox and never reads it: a repeat is work like any other.

Cure removed: the inbox with stored outputs.
Hurts when: the worker dies after its COMMIT. The batch comes again, the sagas have moved on, every
event of it is ignored as stale, and what the first attempt decided to publish is never published.
Breaks: X1 (a decided output is nowhere), X4 (a change of status that was never announced).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.db import inbox
from app.db.engine import Transaction
from app.db.inbox import Claim, InboxRow
from app.db.statements import statement
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App

_NOTE = statement(
    f"""
    INSERT INTO ops.inbox (consumer, event_id, status, attempt, outputs, topic, partition, "offset")
    SELECT :consumer, event_id, status, attempt, outputs, topic, part, "offset" FROM {inbox._ROWS}
    ON CONFLICT DO NOTHING
    """  # noqa: S608 (composed of a constant)
)


async def lookup(tx: Transaction, consumer: str, event_ids: Sequence[str]) -> dict[str, InboxRow]:
    """Replaces the look-up: nothing was ever done before."""
    return {}


async def claim(tx: Transaction, consumer: str, claims: Sequence[Claim]) -> None:
    """Replaces the claim: note the rows, whoever has them already, and commit."""
    await tx.execute(_NOTE, commit=True, consumer=consumer, **inbox._columns(claims))


def install(app: App) -> None:
    """Take the inbox's say from the orchestrator."""
    if unsafe(app, __name__, "the inbox", "orchestrator"):
        replace(inbox, "lookup", lookup)
        replace(inbox, "claim", claim)
