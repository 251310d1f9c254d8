"""The load generator: exact shares, repeatable plans, honest outcomes, an open model."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
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
    NEVER_AGAIN,
    Again,
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
            load = Load(url, ledger, run="hanging-run", timeout_s=0.5, retry_pauses_s=())
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


class Shop:
    """An API with idempotency keys; first requests get `firsts` (statuses) before they count."""

    def __init__(self, firsts: Iterable[int] = ()) -> None:
        self.firsts = list(firsts)
        self.seen: list[tuple[str, bytes]] = []
        self.orders: dict[str, bytes] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Take an order, replay it, or refuse its key."""
        key, raw = request.headers["Idempotency-Key"], await request.read()
        self.seen.append((key, raw))
        if self.firsts:
            return web.json_response({"code": "overloaded"}, status=self.firsts.pop(0))
        if self.orders.setdefault(key, raw) != raw:
            return web.json_response({"code": "idempotency_key_reused"}, status=422)
        return web.json_response({"orderId": f"o-{key}"}, status=202)


async def loaded(shop: Shop, tmp_path: Path, *, again: Again, orders: int = 1) -> list[Line]:
    """Send a small plan to `shop`; all lines of its ledger but those of sent requests."""
    path = tmp_path / "load.jsonl"
    planned = plan(orders, 500, 1, {Outcome.HAPPY: 1}, CATALOGUE, again)
    async with serving(shop.answer) as url:
        with LedgerFile(path) as ledger:
            load = Load(url, ledger, run="again", retry_pauses_s=(0.01, 0.01, 0.01))
            await load.run(planned)
    lines = read(path)
    assert Counter(one.op for one in lines) == dict.fromkeys((one.op for one in lines), 2)
    return [line for line in lines if line.outcome != "sent"]


async def test_an_unknown_order_is_asked_for_again_with_its_key_and_body(
    tmp_path: Path,
) -> None:
    """Each attempt is a line of its own, with an op and a request id of its own."""
    shop = Shop([500, 500])
    lines = await loaded(shop, tmp_path, again=NEVER_AGAIN)
    assert len(shop.seen) == 3
    assert len(set(shop.seen)) == 1
    assert [(one.op, one.kind, one.outcome, one.order_id) for one in lines] == [
        ("again-0", "create", "unknown", ""),
        ("again-0-repeat-1", "repeat", "unknown", ""),
        ("again-0-repeat-2", "repeat", "ok", "o-again-0"),
    ]
    assert {one.idempotency_key for one in lines} == {"again-0"}
    assert [one.request_id for one in lines] == [one.op for one in lines]


@pytest.mark.parametrize(
    ("answers", "repeats"),
    [
        ([500] * 9, [("unknown", 500)] * 3),
        ([500, 422], [("fail", 422)]),
        ([500, 503], [("fail", 503), ("ok", 202)]),
    ],
    ids=["unknown for ever", "refused for good", "not begun"],
)
async def test_repeats_end_when_the_outcome_is_known_or_they_are_used_up(
    tmp_path: Path, answers: list[int], repeats: list[tuple[str, int]]
) -> None:
    """Three at most; a repeat that did nothing says nothing about the first request."""
    create, *others = await loaded(Shop(answers), tmp_path, again=Again(1, 1))
    assert (create.kind, create.outcome) == ("create", "unknown")
    assert {one.kind for one in others} == {"repeat"}
    assert [(one.outcome, one.status) for one in others] == repeats


async def test_an_accepted_order_is_repeated_and_its_key_tried_with_another_body(
    tmp_path: Path,
) -> None:
    """The repeat gets the stored reply, the other body is refused; the create stays one line."""
    shop = Shop()
    create, repeat, conflict = await loaded(shop, tmp_path, again=Again(1, 1))
    assert (create.kind, create.outcome, create.order_id) == ("create", "ok", "o-again-0")
    assert (repeat.kind, repeat.outcome, repeat.order_id) == ("repeat", "ok", "o-again-0")
    assert repeat.body_hash == create.body_hash
    assert repeat.reply_hash == create.reply_hash != ""
    assert (conflict.kind, conflict.outcome, conflict.status) == ("conflict", "fail", 422)
    assert (conflict.order_id, conflict.reply_hash) == ("", "")
    assert conflict.body_hash != create.body_hash
    assert len({one.idempotency_key for one in (create, repeat, conflict)}) == 1
    assert len({one.request_id for one in (create, repeat, conflict)}) == 3


async def test_what_is_asked_again_is_not_counted_as_an_order(tmp_path: Path) -> None:
    """Counts and latencies are those of first requests; repeats have counts of their own."""
    lines = await loaded(Shop(), tmp_path, again=Again(0.5, 0.25), orders=8)
    summary = summarize(lines, "")
    creates = [line for line in lines if line.kind == "create"]
    assert (summary.requests, summary.ok, summary.fail) == (8, 8, 0)
    assert (summary.repeats, summary.conflicts) == ({"ok": 4}, {"fail": 2})
    assert summary.details == {}
    assert summary.latency_ms == summarize(creates, "").latency_ms


async def test_a_first_refusal_is_not_asked_again(tmp_path: Path) -> None:
    """Only accepted and unknown orders are; a plan without repeats has none."""
    assert len(await loaded(Shop([422]), tmp_path, again=Again(1, 1))) == 1
    assert len(await loaded(Shop(), tmp_path / "never", again=NEVER_AGAIN)) == 1


def test_same_seed_repeats_the_same_orders_and_changes_no_order() -> None:
    """About 2 % are repeated and 1 % contested, at places that the seed decides."""

    def places(seed: int, again: Again) -> tuple[list[int], list[int]]:
        orders = plan(1_000, 50, seed, DEFAULT_MIX, CATALOGUE, again)
        return (
            [one.number for one in orders if one.repeated],
            [one.number for one in orders if one.contested],
        )

    repeated, contested = places(3, Again())
    assert (repeated, contested) == places(3, Again())
    assert (repeated, contested) != places(4, Again())
    assert len(repeated) in (20, 21)
    assert len(contested) in (10, 11)
    assert places(3, NEVER_AGAIN) == ([], [])
    assert places(3, Again(1, 1)) == ([*range(1_000)], [*range(1_000)])
    with_, without = (
        [order[:5] for order in plan(50, 50, 3, DEFAULT_MIX, CATALOGUE, again)]
        for again in (Again(), NEVER_AGAIN)
    )
    assert with_ == without


async def test_the_catalogue_is_asked_for_again_while_the_api_is_away() -> None:
    """A load that begins during an outage waits a while instead of giving up at once."""
    answers = [503, 503, 200]

    async def answer(_: web.Request) -> web.StreamResponse:
        products = [{"productId": "A", "available": 3, "name": "more than is read"}]
        return web.json_response({"products": products}, status=answers.pop(0))

    async with serving(answer) as url:
        assert await read_catalogue(url) == [Product("A", 3)]
    assert not answers
