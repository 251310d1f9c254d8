"""The sink that writes to the worker's log: at least once, it recognises no repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.domain.notification import Message

log = get_log(__name__)


class LogSink:
    """One line of the log per notification; a crash between it and the record repeats it."""

    async def hand_over(self, message: Message) -> None:
        """Write the line."""
        log.info(
            "notification.sent",
            notification_id=message.id,
            subject=message.subject,
            kind=message.kind,
            audience=message.audience,
            text=message.text,
        )
