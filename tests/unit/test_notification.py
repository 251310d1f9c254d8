"""Who is told what, and what a sink does with it twice."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from aiokafka.structs import ConsumerRecord

from agents.notification import Notifications
from app import ids
from app.delivery import Call, Event, Reply, Retry
from app.domain.definition import State
from app.domain.notification import TEMPLATES, UNTOLD, Message, Template, matches, notice_of
from app.errors import SinkUnavailable
from app.flows import FLOWS
from app.messages import (
    ApiRateLimited,
    Body,
    ChaosInjected,
    InventoryResult,
    OrderCancel,
    OrderReviewed,
    OrderStatusChanged,
    PaymentResult,
    ShippingResult,
    StockLow,
)
from app.notification.file_sink import FileSink
from app.notification.log_sink import LogSink
from app.notification.sink import sink_of
from app.settings import load_settings
from tests.contracts.samples import SAMPLES

pytestmark = pytest.mark.unit

ORDER = ids.uuid5(ids.uuid5("0" * 32, "notification"), "order")
AT = datetime(2026, 11, 28, tzinfo=UTC)
MESSAGE = Message(ids.uuid5(ORDER, "1"), ORDER, "shipped", "", "customer", "It is on its way.", AT)


def changed(status: str) -> OrderStatusChanged:
    """An order's change of status."""
    return OrderStatusChanged(order_id=ORDER, status=status, reason="timeout", saga_version=3)


def paid(**values: Any) -> PaymentResult:
    """A payment's result."""
    return PaymentResult(order_id=ORDER, command_id=ORDER, **values)


def called_back(shipment_id: str) -> ShippingResult:
    """The reply of a shipment that is not to be."""
    return ShippingResult(
        order_id=ORDER, command_id=ORDER, operation="cancel", outcome="OK", shipment_id=shipment_id
    )


@pytest.mark.parametrize(
    ("body", "kind", "audience"),
    [
        (changed("COMPLETED"), "order_completed", "customer"),
        (changed("CANCELLED"), "order_cancelled", "customer"),
        (changed("REJECTED"), "order_rejected", "customer"),
        (changed("PARKED"), "order_parked", "operator"),
        (OrderCancel(order_id=ORDER), "cancel_requested", "customer"),
        (OrderReviewed(order_id=ORDER, approved=True), "review_approved", "customer"),
        (paid(operation="charge", outcome="OK", payment_id="p"), "payment_charged", "customer"),
        (paid(operation="charge", outcome="DECLINED"), "payment_declined", "customer"),
        (paid(operation="refund", outcome="OK", payment_id="p"), "payment_refunded", "customer"),
        (paid(operation="refund", outcome="PARKED"), "payment_parked", "operator"),
        (
            ShippingResult(order_id=ORDER, command_id=ORDER, operation="ship", outcome="OK"),
            "shipped",
            "customer",
        ),
        (called_back("s"), "shipment_cancelled", "customer"),
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
        OrderReviewed(order_id=ORDER, approved=False),
        called_back(""),  # it had never been made
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


def struck(version: int, worker: str = "payment-1") -> ChaosInjected:
    """A rule struck, under an id that is used again and again."""
    return ChaosInjected(
        rule_id="http-error", fault="error", worker=worker, hits=1, at=AT, rule_version=version
    )


def limited(hours: int) -> ApiRateLimited:
    """A client was refused, hours after midnight."""
    return ApiRateLimited(client="10.0.0.1", limit_per_min=60, at=AT + timedelta(hours=hours))


def low(restocked: int, available: int = 9) -> StockLow:
    """A SKU fell below a threshold."""
    return StockLow(sku="ROSIN", available=available, restocked=restocked)


@pytest.mark.parametrize(
    ("first", "same", "another", "occurrence"),
    [
        pytest.param(low(100), low(100, 7), low(160), "100", id="restock"),
        pytest.param(struck(3), struck(3, "payment-2"), struck(4), "3", id="rule"),
        pytest.param(limited(1), limited(23), limited(25), "2026-11-28", id="day"),
    ],
)
def test_what_happens_again_is_told_again(
    first: Body, same: Body, another: Body, occurrence: str
) -> None:
    """Of one occurrence an operator is told once, however often it is said; of the next, again."""
    told = [notice_of(one) for one in (first, same, another)]
    assert all(told)
    assert told[0].occurrence == occurrence  # type: ignore[union-attr]
    assert [one.id == told[0].id for one in told] == [True, True, False]  # type: ignore[union-attr]


def everything() -> Iterator[Body]:
    """Every message, once for every combination of its words, flags and empty texts."""
    for sample in SAMPLES:
        choices: dict[str, tuple[Any, ...]] = {}
        for one in msgspec.structs.fields(type(sample)):
            if get_origin(one.type) is Literal:
                choices[one.name] = get_args(one.type)
            elif one.type is bool:
                choices[one.name] = (False, True)
            elif one.name in ("payment_id", "shipment_id"):
                choices[one.name] = ("", "x")
        if isinstance(sample, OrderStatusChanged):
            choices["status"] = tuple(State)
        for values in product(*choices.values()):
            yield msgspec.structs.replace(sample, **dict(zip(choices, values, strict=True)))


def test_every_event_is_told_or_left_out_for_a_reason() -> None:
    """Neither a new message nor a new outcome can be forgotten, and nothing is both."""
    told, untold = set(), set()
    for body in everything():
        reasons = [one for one in UNTOLD if one.body is type(body) and matches(body, one.when)]
        notice = notice_of(body)
        assert (notice is not None) + len(reasons) == 1, body
        told |= {notice.kind} if notice else set()
        untold |= {UNTOLD.index(one) for one in reasons}
    assert told == {one.kind for one in TEMPLATES}
    assert untold == set(range(len(UNTOLD)))


def test_who_is_told_of_a_topic_reads_it_and_no_other() -> None:
    """The agent's topics are those of the templates."""
    read = {topic.name for topic in FLOWS["notification"].receives}
    assert read == {topic for one in TEMPLATES for topic in one.body.TOPICS}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda one: one.kind)
def test_templates_name_members_that_exist(template: Template) -> None:
    """A misspelt member would fail at the first event of that kind."""
    members = {one.name for one in msgspec.structs.fields(template.body)}
    named = {name for _, name, _, _ in string.Formatter().parse(template.text) if name}
    assert named | set(template.when) | ({template.per} - {""}) <= members
    assert (template.body.KEY == "order_id") == (not template.per)
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


async def test_an_event_that_comes_again_is_as_old_as_it_is() -> None:
    """What waited on a retry tier or among the dead letters says when it first stood in its topic;
    so does the lag that is counted from it."""
    first = datetime(2026, 11, 28, 9, tzinfo=UTC)
    headers = [("x-original-timestamp", str(round(first.timestamp() * 1000)).encode())]
    for delivery, expected in ((0, AT), (1, first)):
        [call] = await Notifications(Away()).begin(New(), [event_of(delivery, headers)], AT)  # type: ignore[arg-type]
        assert isinstance(call, Call)
        assert call.request.at == expected


class New:
    """A transaction in which every notification is new."""

    async def fetch(self, _: Any, *, ids: list[str], **__: Any) -> list[tuple[str]]:
        return [(one,) for one in ids]


def event_of(delivery: int, headers: list[tuple[str, bytes]]) -> Event:
    """An order's end, delivered for the so many-th time now."""
    topic = "order.status_changed"
    record: Any = ConsumerRecord(
        topic, 0, 0, round(AT.timestamp() * 1000), 0, b"", b"", None, 0, 0, tuple(headers)
    )
    body = changed("COMPLETED")
    return Event(topic, 0, 0, b"", ORDER, "", body, delivery, delivery, "", "", "", record)


def test_a_slow_sink_must_fit_into_the_deadline_of_a_batch() -> None:
    """Otherwise it would fail its notifications instead of making them wait."""
    with pytest.raises(Exception, match="notification_delay_ms"):
        load_settings(role="notification", notification_delay_ms=900, gateway_concurrency_max=8)


def test_the_page_tells_every_kind() -> None:
    """One row of docs/notifications.md per template, in the same order, to the same people."""
    page = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = [(row[0].strip("| `"), row[2], row[3].strip("| `")) for row in rows if len(row) == 4]
    assert told == [(one.kind, one.audience, one.per) for one in TEMPLATES]


def test_the_page_tells_what_is_left_out() -> None:
    """One row per line of UNTOLD, with its reason."""
    page = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
    for one in UNTOLD:
        row = f"| `{one.body.TOPICS[0]}` | {words_of(one.when)} | {one.reason} |"
        assert row in page, row


def words_of(when: Mapping[str, Any]) -> str:
    """A condition as the page says it."""
    words = []
    for name, wanted in when.items():
        if isinstance(wanted, bool):
            words.append(f"`{name}`" if wanted else f"not `{name}`")
        else:
            words.append(" or ".join(wanted) if isinstance(wanted, tuple) else wanted)
    return ", ".join(words) or "all"
