"""Edit and replay: what an operator made of a dead letter, as the message that replaces it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain import redrive as rule
from app.domain.redrive import REFUSED, Resent, Verdict
from app.errors import Poison
from app.messages import Output, decode
from app.redrive import record
from app.redrive.judge import saga_of

if TYPE_CHECKING:
    from app.db.deadletters import DeadLetter
    from app.db.engine import Transaction
    from app.domain.definition import Policy


async def make_edit(
    tx: Transaction, letter: DeadLetter, value: bytes, source: str, at: datetime, policy: Policy
) -> Output | Verdict:
    """Return the message with the content `value`, or why it may not be sent.

    It is read as its consumer will read it. Its id is derived from the letter and the content; a
    command of a saga must be the one that the saga waits for, and keeps the saga's id.
    """
    event_id = rule.edited_id(letter.id, value)
    correlation_id = record.correlation_of(letter)
    stamp = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()

    def message(identity: str) -> Output:
        return record.edited(
            letter,
            value,
            event_id=identity,
            correlation_id=correlation_id,
            source=source,
            at=stamp,
        )

    output = message(event_id)
    try:
        decoded = decode(output.topic, output.headers, output.key, output.value)
    except Poison as error:
        return Verdict(REFUSED, f"unreadable: {error}")
    order_id = getattr(decoded.body, "order_id", None)
    try:
        saga = await saga_of(tx, order_id) if order_id is not None else None
    except Poison:
        return Verdict(REFUSED, "its saga cannot be read")
    if saga is not None and saga.correlation_id:
        correlation_id = saga.correlation_id
    if rule.is_command(output.topic):
        resent = rule.as_command(saga, output.topic, decoded.body, at, policy)
        return message(resent.command_id) if isinstance(resent, Resent) else resent
    return message(event_id)
