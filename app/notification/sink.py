"""What a sink is, and the one that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from app.domain.notification import Message
    from app.settings import Settings


class Sink(Protocol):
    """Takes notifications, at least once each; one that knows ids drops a repeat of one."""

    async def hand_over(self, message: Message) -> None:
        """Hand `message` over; returns once the sink has it. Raises SinkUnavailable."""


def sink_of(settings: Settings) -> Sink:
    """Return the sink of the setting `notification_sink`; nothing is opened yet."""
    from app.notification.file_sink import FileSink
    from app.notification.log_sink import LogSink
    from app.notification.smtp_sink import SmtpSink

    match settings.notification_sink:
        case "file":
            return FileSink(settings.notification_file, settings.notification_timeout_s)
        case "smtp":
            return SmtpSink(settings)
        case "log":
            return LogSink()
