"""Edit and replay: what an operator made of a dead letter, as the message that replaces it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.domain import redrive as rule
from app.domain.redrive import REFUSED, Verdict
from app.errors import Poison
from app.messages import Output, decode, encode
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

    It is read as its consumer will read it, and written as a message is. Its id is derived from
    the letter and the content; a command of a saga must be the one that the saga waits for, and
    keeps the saga's id.
    """
    correlation_id = record.correlation_of(letter)
    stamp = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()

    def message(event_id: str, content: bytes) -> Output:
        return record.edited(
            letter,
            content,
            event_id=event_id,
            correlation_id=correlation_id,
            source=source,
            at=stamp,
        )

    event_id = rule.edited_id(letter.id, value)
    output = message(event_id, value)
    try:
        body = decode(output.topic, output.headers, output.key, output.value).body
        order_id = getattr(body, "order_id", None)
        saga = await saga_of(tx, order_id) if order_id is not None else None
    except Poison as error:
        return Verdict(REFUSED, f"unreadable: {error}")
    if saga is not None and saga.correlation_id:
        correlation_id = saga.correlation_id
    if not rule.is_command(output.topic):
        return message(event_id, encode(body))
    resent = rule.as_command(saga, output.topic, body, at, policy)
    if isinstance(resent, Verdict):
        return resent
    return message(resent.command_id, encode(resent.body))
