"""The sink that sends mail; the Message-ID is the notification's, so mail systems see a repeat."""

from __future__ import annotations

import asyncio
import smtplib
from email.message import EmailMessage
from typing import TYPE_CHECKING

from app.errors import SinkUnavailable

if TYPE_CHECKING:
    from app.domain.notification import Message
    from app.settings import Settings


class SmtpSink:
    """One connection per mail, in a thread, bounded by `notification_timeout_s`."""

    def __init__(self, settings: Settings) -> None:
        self._host, self._port = settings.notification_smtp_host, settings.notification_smtp_port
        self._sender, self._recipient = settings.notification_from, settings.notification_to
        self._timeout_s = settings.notification_timeout_s

    async def hand_over(self, message: Message) -> None:
        """Send the mail; returns once the server has taken it. Raises SinkUnavailable."""
        await asyncio.to_thread(self._deliver, self.mail_of(message))

    def mail_of(self, message: Message) -> EmailMessage:
        """Return the mail of a notification."""
        mail = EmailMessage()
        domain = self._sender.rpartition("@")[2]
        mail["Message-ID"] = f"<{message.id}@{domain}>"
        mail["From"], mail["To"] = self._sender, self._recipient
        mail["Date"] = message.at
        mail["Subject"] = f"{message.kind.replace('_', ' ')}: {message.subject}"
        mail["X-Audience"] = message.audience
        mail.set_content(message.text)
        return mail

    def _deliver(self, mail: EmailMessage) -> None:
        try:
            with smtplib.SMTP(self._host, self._port, timeout=self._timeout_s) as server:
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            raise SinkUnavailable(f"{self._host}:{self._port}: {error!r}"[:200]) from None
