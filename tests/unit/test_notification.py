"""Who is told what, and what a sink does with it twice."""

from __future__ import annotations

import asyncio
import string
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.notification import Notifications
from app import ids
from app.delivery import Reply, Retry
from app.domain.notification import TEMPLATES, Message, Template, notice_of
from app.errors import SinkUnavailable
from app.messages import (
    ApiRateLimited,
    InventoryResult,
    OrderCancel,
    OrderStatusChanged,
    PaymentResult,
    ShippingResult,
    StockLow,
)
from app.notification.file_sink import FileSink
from app.notification.log_sink import LogSink
from app.notification.sink import sink_of
from app.notification.smtp_sink import SmtpSink
from app.settings import load_settings

pytestmark = pytest.mark.unit

ORDER = ids.uuid5(ids.uuid5("0" * 32, "notification"), "order")
AT = datetime(2026, 11, 28, tzinfo=UTC)
MESSAGE = Message(ids.uuid5(ORDER, "1"), ORDER, "shipped", "customer", "It is on its way.", AT)


def changed(status: str) -> OrderStatusChanged:
    """An order's change of status."""
    return OrderStatusChanged(order_id=ORDER, status=status, reason="timeout", saga_version=3)


def paid(**values: Any) -> PaymentResult:
    """A payment's result."""
    return PaymentResult(order_id=ORDER, command_id=ORDER, **values)


@pytest.mark.parametrize(
    ("body", "kind", "audience"),
    [
        (changed("COMPLETED"), "order_completed", "customer"),
        (changed("CANCELLED"), "order_cancelled", "customer"),
        (changed("REJECTED"), "order_rejected", "customer"),
        (changed("PARKED"), "order_parked", "operator"),
        (OrderCancel(order_id=ORDER), "cancel_requested", "customer"),
        (paid(operation="charge", outcome="DECLINED"), "payment_declined", "customer"),
        (paid(operation="refund", outcome="OK", payment_id="p"), "payment_refunded", "customer"),
        (paid(operation="refund", outcome="PARKED"), "payment_parked", "operator"),
        (
            ShippingResult(order_id=ORDER, command_id=ORDER, operation="ship", outcome="OK"),
            "shipped",
            "customer",
        ),
        (StockLow(sku="ROSIN", available=2), "stock_low", "operator"),
        (ApiRateLimited(client="10.0.0.1", limit_per_min=60, at=AT), "rate_limited", "operator"),
    ],
)
def test_what_is_told_and_to_whom(body: Any, kind: str, audience: str) -> None:
    """The first matching template, its words filled in, the message's key as subject."""
    notice = notice_of(body)
    assert notice is not None
    assert (notice.kind, notice.audience) == (kind, audience)
    assert notice.subject == getattr(body, type(body).KEY)
    assert "{" not in notice.text
    assert notice.subject in notice.text


@pytest.mark.parametrize(
    "body",
    [
        changed("PAYMENT_PENDING"),
        paid(operation="charge", outcome="OK", payment_id="p"),
        paid(operation="refund", outcome="OK"),  # nothing had been captured
        paid(operation="charge", outcome="RETRYING"),
        InventoryResult(order_id=ORDER, command_id=ORDER, operation="reserve", outcome="OK"),
    ],
)
def test_of_the_rest_nobody_is_told(body: Any) -> None:
    """Steps on the way are nobody's news."""
    assert notice_of(body) is None


def test_one_id_per_subject_and_kind() -> None:
    """The same news of another event has the same id, other news another."""
    first, again = (
        notice_of(changed("PARKED")),
        notice_of(OrderStatusChanged(order_id=ORDER, status="PARKED", reason="x", saga_version=9)),
    )
    other = notice_of(changed("COMPLETED"))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.id == again.id != other.id


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: one.kind)
def test_templates_name_members_that_exist(template: Template) -> None:
    """A misspelt member would fail at the first event of that kind."""
    members = {one.name for one in msgspec.structs.fields(template.body)}
    named = {name for _, name, _, _ in string.Formatter().parse(template.text) if name}
    assert named | set(template.when) <= members
    assert template.body.KEY in named
    assert [one.kind for one in TEMPLATES].count(template.kind) == 1


async def test_a_file_sink_drops_repeats_across_restarts_and_workers(tmp_path: Path) -> None:
    """A second worker reads what the first has appended, whenever it did."""
    path = tmp_path / "made" / "sent.jsonl"
    first, second = FileSink(path, 1.0), FileSink(path, 1.0)
    other = msgspec.structs.replace(MESSAGE, id=ids.uuid5(ORDER, "2"))
    for sink, message in ((first, MESSAGE), (second, other), (first, other), (second, MESSAGE)):
        await sink.hand_over(message)
    await FileSink(path, 1.0).hand_over(MESSAGE)
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [line["id"] for line in lines] == [MESSAGE.id, other.id]
    assert lines[0]["text"] == MESSAGE.text


async def test_a_torn_line_is_taken_away_and_junk_is_refused(tmp_path: Path) -> None:
    """What was never finished was never sent; another file is not written to."""
    path = tmp_path / "sent.jsonl"
    await FileSink(path, 1.0).hand_over(MESSAGE)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": "half')
    await FileSink(path, 1.0).hand_over(MESSAGE)
    assert path.read_bytes() == whole
    path.write_bytes(b"something else\n")
    with pytest.raises(SinkUnavailable, match="not a file of notifications"):
        await FileSink(path, 1.0).hand_over(MESSAGE)


async def test_a_file_that_cannot_be_written_or_locked_is_an_outage(tmp_path: Path) -> None:
    """Both are indefinite: the retry tiers try again."""
    with pytest.raises(SinkUnavailable, match="directory"):
        await FileSink(tmp_path, 1.0).hand_over(MESSAGE)
    holder, waiter = FileSink(tmp_path / "f", 1.0), FileSink(tmp_path / "f", 0.05)
    await holder.hand_over(MESSAGE)
    async with holder._locked():
        with pytest.raises(SinkUnavailable, match="locked"):
            await waiter.hand_over(MESSAGE)
    await waiter.hand_over(MESSAGE)


def test_a_mail_carries_the_id_by_which_a_repeat_is_seen() -> None:
    """Message-ID from the notification's id, addresses from the settings."""
    settings = load_settings(
        role="notification",
        notification_sink="smtp",
        notification_from="shop@example.org",
        notification_to="desk@example.org",
    )
    sink = sink_of(settings)
    assert isinstance(sink, SmtpSink)
    mail = sink.mail_of(MESSAGE)
    assert mail["Message-ID"] == f"<{MESSAGE.id}@example.org>"
    assert parseaddr(mail["To"])[1] == "desk@example.org"
    assert mail.get_content().strip() == MESSAGE.text


async def test_an_smtp_server_that_is_not_there_is_an_outage() -> None:
    """Port 9 of this machine answers no mail."""
    settings = load_settings(
        role="notification", notification_sink="smtp", notification_smtp_port=9
    )
    with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1:9"):
        await sink_of(settings).hand_over(MESSAGE)


def test_the_default_sink_writes_to_the_log() -> None:
    """Nothing needs to be set up to see what would be told."""
    assert isinstance(sink_of(load_settings(role="notification")), LogSink)


class Away:
    """A sink that takes nothing."""

    async def hand_over(self, message: Message) -> None:
        raise SinkUnavailable("away")


async def test_an_outage_of_the_sink_is_a_retry_and_a_slow_one_only_slow() -> None:
    """What was not taken is not recorded as sent."""
    sink = Notifications(Away())
    with pytest.raises(SinkUnavailable):
        await sink.call(MESSAGE)
    error = SinkUnavailable("away")
    event: Any = object()
    [result] = await sink.complete(None, [Reply(event, MESSAGE, error)], AT)  # type: ignore[arg-type]
    assert result == Retry(error)
    slow = Notifications(LogSink(), delay_ms=30)
    began = asyncio.get_running_loop().time()
    await slow.call(MESSAGE)
    assert asyncio.get_running_loop().time() - began >= 0.03


def test_a_slow_sink_must_fit_into_the_deadline_of_a_batch() -> None:
    """Otherwise it would fail its notifications instead of making them wait."""
    with pytest.raises(Exception, match="notification_delay_ms"):
        load_settings(role="notification", notification_delay_ms=900, gateway_concurrency_max=8)


def test_the_page_tells_every_kind() -> None:
    """One row of docs/notifications.md per template, in the same order, to the same people."""
    page = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = [(row[0].strip("| `"), row[2].strip("| ")) for row in rows if len(row) == 3]
    assert told == [(one.kind, one.audience) for one in TEMPLATES]
