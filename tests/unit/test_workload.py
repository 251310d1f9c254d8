"""The load generator: exact shares, repeatable plans, honest outcomes, an open model."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chaos.workload.generator import Load, judge, read_catalogue
from chaos.workload.ledger import LedgerFile, Line
from chaos.workload.mix import (
    DEFAULT_MIX,
    Outcome,
    Product,
    UnusableMixError,
    parse_mix,
    plan,
)
from chaos.workload.summary import summarize
from tests.waiting import eventually

CATALOGUE = [Product("A", 50_000), Product("B", 20_000), Product("GONE", 0), Product("RARE", 5)]


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """Serve every request by `answer`; yield the address."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(application)
    await server.start_server()
    yield str(server.make_url("/"))
    await server.close()


def read(path: Path) -> list[Line]:
    """All lines of a ledger."""
    return [msgspec.json.decode(raw, type=Line) for raw in path.read_bytes().splitlines()]


def test_shares_are_exact_and_no_class_of_a_small_run_is_empty() -> None:
    """A plan has each class as often as its share says, to the nearest order."""
    counts = Counter(order.expected for order in plan(100, 50, 7, DEFAULT_MIX, CATALOGUE))
    assert counts == {name: int(share) for name, share in DEFAULT_MIX.items()}
    small = Counter(order.expected for order in plan(20, 50, 7, DEFAULT_MIX, CATALOGUE))
    assert set(small) == set(Outcome)


def test_same_seed_gives_same_orders_and_another_seed_others() -> None:
    """A plan is a function of its arguments."""
    first = plan(200, 50, 3, DEFAULT_MIX, CATALOGUE)
    assert first == plan(200, 50, 3, DEFAULT_MIX, CATALOGUE)
    assert first != plan(200, 50, 4, DEFAULT_MIX, CATALOGUE)
    assert [order.due_s for order in first[:3]] == [0, 0.02, 0.04]


def test_only_declined_orders_have_the_declined_amount() -> None:
    """The sandbox's ending marks the declined class and never stands in another one."""
    for order in plan(2_000, 50, 5, DEFAULT_MIX, CATALOGUE):
        total = order.body.get("total", "")
        assert total.endswith(".13") == (order.expected is Outcome.DECLINED)
        wanted = {item["productId"] for item in order.body.get("items", [])}
        assert ("GONE" in wanted) == (order.expected is Outcome.OUT_OF_STOCK)
        assert "RARE" not in wanted
        refused = "REFUSE" in order.body.get("shippingAddress", "").upper()
        assert refused == (order.expected is Outcome.SHIPPING_REFUSED)
        assert (order.cancel_after_s is not None) == (order.expected is Outcome.CANCELLED)


@pytest.mark.parametrize("text", ["happy", "nobody=1", "happy=x", "happy=0", "happy=-1", ","])
def test_an_unusable_mix_is_refused_with_its_reason(text: str) -> None:
    """Every wrong mix raises an error that can be shown."""
    with pytest.raises(UnusableMixError):
        parse_mix(text)


def test_a_mix_that_needs_a_sold_out_product_says_so() -> None:
    """Without a sold-out product no order can be out of stock."""
    with pytest.raises(UnusableMixError, match="sold out"):
        plan(10, 1, 1, {Outcome.OUT_OF_STOCK: 1}, CATALOGUE[:2])


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (202, b'{"orderId": "o-1"}', "ok"),
        (202, b"{}", "unknown"),
        (200, b"<html>", "unknown"),
        (422, b'{"code": "invalid_request"}', "fail"),
        (503, b'{"code": "overloaded"}', "fail"),
        (503, b'{"code": "database_unavailable"}', "unknown"),
        (500, b"", "unknown"),
    ],
)
def test_an_answer_is_fail_only_when_it_proves_no_effect(
    status: int, answer: bytes, outcome: str
) -> None:
    """A 5xx may hide an order; only a refusal before the work proves that there is none."""
    assert judge(status, answer)[0] == outcome


async def test_requests_leave_when_due_although_nothing_is_answered(tmp_path: Path) -> None:
    """A platform that hangs does not slow the generator down, and its requests are unknown."""

    async def hang(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    orders = plan(40, 200, 1, {Outcome.HAPPY: 1}, CATALOGUE)
    path = tmp_path / "load.jsonl"
    async with serving(hang) as url:
        with LedgerFile(path) as ledger:
            load = Load(url, ledger, run="hanging-run", timeout_s=0.5)
            started = time.monotonic()
            await load.run(orders)
            took_s = time.monotonic() - started
    assert took_s < 5
    assert Counter(line.outcome for line in read(path)) == {"sent": 40, "unknown": 40}
    assert all(line.returned_s - line.sent_s > 0.4 for line in load.lines)


async def test_what_would_exceed_the_bound_is_not_sent(tmp_path: Path) -> None:
    """Beyond the bound in flight a request fails surely, without a line that it was sent."""
    seen = 0

    async def others_failed() -> bool:
        return len(load.lines) >= 15

    async def hang(_: web.Request) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        await eventually(others_failed, timeout_s=10, what="all others have failed")
        return web.json_response({"orderId": f"o-{seen}"}, status=202)

    orders = plan(20, 2_000, 1, {Outcome.HAPPY: 1}, CATALOGUE)
    path = tmp_path / "load.jsonl"
    async with serving(hang) as url:
        with LedgerFile(path) as ledger:
            load = Load(url, ledger, run="bounded-run", in_flight_max=5)
            await load.run(orders)
    assert seen == 5
    summary = summarize(load.lines, str(path))
    assert (summary.ok, summary.fail, summary.unknown) == (5, 15, 0)
    assert Counter(line.outcome for line in read(path))["sent"] == 5


async def test_latency_counts_from_the_intended_time_not_from_the_send(tmp_path: Path) -> None:
    """When the generator itself is held up, the wait is in the latency."""

    async def answer(_: web.Request) -> web.StreamResponse:
        time.sleep(0.1)  # noqa: ASYNC251 - stalls generator and server alike
        return web.json_response({"orderId": "o-1"}, status=202)

    orders = plan(8, 1_000, 1, {Outcome.HAPPY: 1}, CATALOGUE)
    async with serving(answer) as url:
        with LedgerFile(tmp_path / "load.jsonl") as ledger:
            load = Load(url, ledger, run="stalled-run")
            await load.run(orders)
    assert summarize(load.lines, "").latency_ms["max"] >= 700


async def test_cancelled_orders_are_cancelled_after_their_answer(tmp_path: Path) -> None:
    """The cancelled class sends a second request that names the order it got."""
    paths: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return web.json_response({"orderId": "o-9"}, status=202)

    path = tmp_path / "load.jsonl"
    async with serving(answer) as url:
        with LedgerFile(path) as ledger:
            await Load(url, ledger, run="cancelling").run(
                plan(1, 10, 1, {Outcome.CANCELLED: 1}, CATALOGUE)
            )
    assert paths == ["/api/orders", "/api/orders/o-9/cancel"]
    assert [(line.kind, line.outcome) for line in read(path)] == [
        ("create", "sent"),
        ("create", "ok"),
        ("cancel", "sent"),
        ("cancel", "ok"),
    ]


async def test_a_refused_connection_is_a_sure_failure(tmp_path: Path) -> None:
    """Nothing listens, so nothing can have happened."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response()

    async with serving(answer) as url:
        pass
    with LedgerFile(tmp_path / "load.jsonl") as ledger:
        load = Load(url, ledger, run="no-server-run")
        await load.run(plan(3, 100, 1, {Outcome.HAPPY: 1}, CATALOGUE))
    assert [line.outcome for line in load.lines] == ["fail"] * 3


async def test_the_catalogue_is_asked_for_again_while_the_api_is_away() -> None:
    """A load that begins during an outage waits a while instead of giving up at once."""
    answers = [503, 503, 200]

    async def answer(_: web.Request) -> web.StreamResponse:
        products = [{"productId": "A", "available": 3, "name": "more than is read"}]
        return web.json_response({"products": products}, status=answers.pop(0))

    async with serving(answer) as url:
        assert await read_catalogue(url) == [Product("A", 3)]
    assert not answers
