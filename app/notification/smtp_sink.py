"""The sink that sends mail; the Message-ID is the notification's, so mail systems see a repeat.

A mail counts as sent once the server has taken it, whatever becomes of the connection afterwards.
Until then it may have been taken: it is sent again, under the same Message-ID.
"""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from typing import TYPE_CHECKING

from app.errors import SinkUnavailable

if TYPE_CHECKING:
    from app.domain.notification import Message
    from app.settings import Settings

FAILURES = (OSError, smtplib.SMTPException)


class SmtpSink:
    """One connection per mail, at most `notification_smtp_connections` at a time, in threads of its
    own. From its turn on a mail has `notification_timeout_s`, all in all; then it is cut off."""

    def __init__(self, settings: Settings) -> None:
        self._host, self._port = settings.notification_smtp_host, settings.notification_smtp_port
        self._sender, self._recipient = settings.notification_from, settings.notification_to
        self._timeout_s = settings.notification_timeout_s
        self._turns = asyncio.Semaphore(settings.notification_smtp_connections)
        self._threads = ThreadPoolExecutor(settings.notification_smtp_connections, "smtp")

    async def hand_over(self, message: Message) -> None:
        """Send the mail; returns once the server has taken it. Raises SinkUnavailable."""
        async with self._turns:
            delivery = Delivery(self._host, self._port, self._timeout_s)
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await loop.run_in_executor(
                        self._threads, lambda: delivery.run(self.mail_of(message))
                    )
            except (*FAILURES, TimeoutError) as error:
                if not delivery.taken:
                    reason = repr(error) if str(error) else f"not within {self._timeout_s:g} s"
                    raise SinkUnavailable(f"{self._host}:{self._port}: {reason}"[:200]) from None
            finally:
                delivery.cut()

    def mail_of(self, message: Message) -> EmailMessage:
        """Return the mail of a notification."""
        mail = EmailMessage()
        domain = self._sender.rpartition("@")[2]
        mail["Message-ID"] = f"<{message.id}@{domain}>"
        mail["From"], mail["To"] = self._sender, self._recipient
        mail["Date"] = message.at
        mail["Subject"] = _one_line(f"{message.kind.replace('_', ' ')}: {message.subject}")
        mail["X-Audience"] = message.audience
        mail.set_content(message.text)
        return mail


class Delivery:
    """One mail on its way: `run` blocks, `cut` ends it from another thread."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        """`timeout_s` bounds each wait for the server; all of them are bounded by `cut`."""
        self.taken = False
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._server: smtplib.SMTP | None = None
        self._is_cut = False

    def run(self, mail: EmailMessage) -> None:
        """Hand the mail to the server. Raises one of FAILURES."""
        # named, as smtplib would ask the resolver for a name at each mail
        self._server = smtplib.SMTP(local_hostname=socket.gethostname(), timeout=self._timeout_s)
        try:
            if not self._is_cut:
                self._server.connect(self._host, self._port)
            if self._is_cut:
                raise smtplib.SMTPServerDisconnected("cut off")
            self._server.send_message(mail)
            self.taken = True
            with contextlib.suppress(*FAILURES):
                self._server.quit()
        finally:
            self._server.close()

    def cut(self) -> None:
        """Have `run` fail at once unless it is over; while it looks up or dials, right after."""
        self._is_cut = True
        connection = self._server.sock if self._server is not None else None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _one_line(text: str) -> str:
    """`text` as a header may hold it: a SKU or a client may be named anything."""
    return "".join(char if char.isprintable() else " " for char in text)
