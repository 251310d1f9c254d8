"""Mails are handed over to a server that takes them, and to servers that misbehave."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import parseaddr

import msgspec
import pytest

from app import ids
from app.domain.notification import Message
from app.errors import SinkUnavailable
from app.notification.sink import sink_of
from app.notification.smtp_sink import SmtpSink
from app.settings import load_settings
from tests.unit.smtp_server import Manner, SmtpServer, listening
from tests.waiting import eventually

pytestmark = pytest.mark.unit

PATIENT_S, IMPATIENT_S = 30.0, 1.0
MESSAGE = Message(
    ids.uuid5("0" * 32, "mail"), "ROSIN", "stock_low", "100", "operator",
    "ROSIN runs low.\n.\nBcc: everybody", datetime(2026, 11, 28, tzinfo=UTC),
)  # fmt: skip


def sink_to(port: int, timeout_s: float = PATIENT_S, connections: int = 4) -> SmtpSink:
    """A sink of mail to this port of this machine."""
    sink = sink_of(
        load_settings(
            role="notification",
            notification_sink="smtp",
            notification_smtp_port=port,
            notification_timeout_s=timeout_s,
            notification_smtp_connections=connections,
            notification_from="shop@example.org",
            notification_to="desk@example.org",
        )
    )
    assert isinstance(sink, SmtpSink)
    return sink


async def connections(server: SmtpServer, count: int) -> None:
    """Wait until it has so many."""

    async def reached() -> bool:
        return server.open == count

    await eventually(reached, timeout_s=PATIENT_S, what=f"{count} connections")


async def test_a_mail_arrives_and_carries_the_id_by_which_a_repeat_is_seen() -> None:
    """Message-ID from the notification's id, addresses from the settings, the text as it is."""
    server = SmtpServer()
    async with listening(server) as port:
        await sink_to(port).hand_over(MESSAGE)
    [mail] = server.mails
    assert mail["Message-ID"] == f"<{MESSAGE.id}@example.org>"
    assert parseaddr(mail["From"])[1] == "shop@example.org"
    assert parseaddr(mail["To"])[1] == "desk@example.org"
    assert mail["Subject"] == "stock low: ROSIN"
    assert mail.get_content().replace("\r\n", "\n").strip() == MESSAGE.text


async def test_a_subject_of_several_lines_makes_no_headers() -> None:
    """A SKU, a rule or a client may be named anything; a header is one line."""
    server = SmtpServer()
    message = msgspec.structs.replace(MESSAGE, subject="A\r\nBcc: all@example.org\x07\u2028é")
    async with listening(server) as port:
        await sink_to(port).hand_over(message)
    [mail] = server.mails
    assert mail["Subject"] == "stock low: A  Bcc: all@example.org  é"
    assert mail["Bcc"] is None


@pytest.mark.parametrize(
    ("manner", "timeout_s", "said"),
    [
        pytest.param("refuses", PATIENT_S, "nobody of that name", id="refuses"),
        pytest.param("hangs", IMPATIENT_S, "not within|timed out", id="hangs"),
        pytest.param("drips", IMPATIENT_S, "not within 1 s", id="drips"),
    ],
)
async def test_a_server_that_does_not_take_it_is_an_outage(
    manner: Manner, timeout_s: float, said: str
) -> None:
    """It ends in the time given, each single answer or byte in time or not, and hangs up."""
    server = SmtpServer(manner)
    async with listening(server) as port:
        async with asyncio.timeout(PATIENT_S):
            with pytest.raises(SinkUnavailable, match=said):
                await sink_to(port, timeout_s).hand_over(MESSAGE)
        await connections(server, 0)


async def test_a_mail_that_may_have_been_taken_is_repeated_under_its_id() -> None:
    """The server took it and never said so: whoever reads mail sees one Message-ID twice."""
    server = SmtpServer("never answers")
    async with listening(server) as port:
        with pytest.raises(SinkUnavailable):
            await sink_to(port, IMPATIENT_S).hand_over(MESSAGE)
        server.manner = "takes"
        await sink_to(port).hand_over(MESSAGE)
    assert [mail["Message-ID"] for mail in server.mails] == [f"<{MESSAGE.id}@example.org>"] * 2


async def test_what_comes_after_the_mail_was_taken_is_not_waited_for() -> None:
    """A server that hangs at the goodbye has the mail: a repeat would be for nothing."""
    server = SmtpServer("never says goodbye")
    async with listening(server) as port:
        await sink_to(port, IMPATIENT_S).hand_over(MESSAGE)
    assert len(server.mails) == 1


async def test_as_many_mails_are_sent_at_a_time_as_the_setting_says() -> None:
    """More than the event loop's own threads: this server takes eighteen mails at once or none."""
    server = SmtpServer(at_once=18)
    async with listening(server) as port:
        sink = sink_to(port, connections=18)
        await asyncio.gather(*(sink.hand_over(MESSAGE) for _ in range(36)))
    assert len(server.mails) == 36


async def test_a_hand_over_that_is_given_up_is_not_sent_behind_its_back() -> None:
    """The step's deadline ends a call: its thread hangs up too."""
    server = SmtpServer("hangs")
    async with listening(server) as port:
        call = asyncio.create_task(sink_to(port).hand_over(MESSAGE))
        await connections(server, 1)
        call.cancel()
        await connections(server, 0)
    assert server.mails == []


async def test_an_smtp_server_that_is_not_there_is_an_outage() -> None:
    """Port 9 of this machine answers no mail."""
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1:9"):
        await sink_to(9).hand_over(MESSAGE)
