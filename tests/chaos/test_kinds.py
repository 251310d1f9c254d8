"""The fault kinds of chaos rules, each at its seam with a fake worker: pure of servers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiokafka.structs import ConsumerRecord

from app import failpoints
from app.errors import DatabaseOutage, Indefinite, Poison, TransientDatabase
from app.failpoints import POINTS, failpoint
from app.messages import Barrier
from app.messages.envelope import Output
from app.roles import ROLES
from app.taps import Taps, exempt
from app.topics import MESSAGE_TOPICS
from chaos.control.hits import Hits
from chaos.control.rule import Rule, Scope
from chaos.faults import kind, on_http
from chaos.faults.fault import BadFault
from chaos.faults.kind import COMMANDS, RESULTS, STRIKABLE, Active
from chaos.faults.kinds import KINDS, UNSAFE_TO_LOSE
from chaos.faults.on_handling import point_of
from chaos.faults.on_messages import losses_of
from web.admission import ADMISSION, RESERVED, Admission, admit

pytestmark = pytest.mark.unit

COMMAND = "payment.requested"
LATER = datetime(2999, 1, 1, tzinfo=UTC)


class FakeApp:
    """What kinds use of a worker."""

    def __init__(self, directory: Path, role: str = "payment") -> None:
        self.taps = Taps()
        self.role = ROLES[role]
        self.batch_topics = {COMMAND, "payment.refund"}
        self.web_extensions: list[Any] = []
        self.settings = SimpleNamespace(
            worker_id=f"{role}-1", lab_dir=str(directory), data_dir=str(directory / "data")
        )


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FakeApp]:
    """A payment worker; no failpoint is left behind."""
    yield FakeApp(tmp_path)
    assert failpoints.installed() == ()


def made(app: FakeApp, fault: str, *, scope: Scope | None = None, **more: Any) -> Any:
    """The active fault of a rule that strikes everything."""
    lease = {"ttl_s": 60, "expires_at": LATER}
    rule = Rule(**{"id": "rule", "fault": fault, "scope": scope or Scope(), **lease, **more})
    return KINDS[fault].build(rule, Hits(rule), cast(Any, app))


def headers(event: str = "e1", **more: str) -> list[tuple[str, bytes]]:
    named = {"ce_id": event, "ce_type": "payment.requested.v1", **more}
    return [(name.replace("_", "-") if name[0] == "x" else name, value.encode())
            for name, value in named.items()]  # fmt: skip


def record(topic: str = COMMAND, offset: int = 0, key: bytes = b"k", **more: str) -> ConsumerRecord:
    event = more.pop("event", f"e{offset}")
    return ConsumerRecord(
        topic, 0, offset, 0, 0, key, b"{}", None, 1, 2, tuple(headers(event, **more))
    )


def output(topic: str = COMMAND, event: str = "e1", **more: str) -> Output:
    return Output(topic, b"k", b'{"order_id":"k"}', headers(event, **more))


async def offsets(app: FakeApp, *records: ConsumerRecord) -> list[int]:
    """What a consumer gets of `records`."""
    return [one.offset for one in await app.taps.on_read("payment", records)]


def idle(app: FakeApp) -> bool:
    """Whether nothing stands between the worker and its servers."""
    taps = app.taps
    return not (taps.incoming or taps.outgoing or taps.statements or taps.paused)


# The registry


def test_every_kind_is_told_and_made_and_taken_away(app: FakeApp) -> None:
    """Started twice and stopped twice, it leaves nothing; unknown parameters are refused."""

    async def story() -> None:
        for one in KINDS.values():
            assert one.meaning
            assert one.roles
            assert one.roles <= ROLES.keys()
            assert one.name in one.conflicts <= KINDS.keys()
            assert one.scope <= {field.name for field in msgspec.structs.fields(Scope)}
            active: Active = made(app, one.name)
            assert idle(app)
            for act in (active.start, active.start, active.stop, active.stop):
                act()
            assert idle(app), one.name
            assert failpoints.installed() == ()
            with pytest.raises(BadFault, match=f"fault {one.name}: .*unknown field"):
                made(app, one.name, params={"nonsense": 1})

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "params"),
    [
        ("drop", {"each_max": 0}),
        ("duplicate", {"copies": 6}),
        ("delay", {"min_ms": 300, "max_ms": 200}),
        ("delay", {"min_ms": -1}),
        ("delay", {"max_ms": 60_000}),
        ("slow", {"max_ms": 5_001}),
        ("timeout", {"after_ms": 60_000}),
        ("error", {"code": "database_outage"}),
        ("pause", {"max_s": 0}),
        ("db_latency", {"max_ms": 4_000}),
        ("db_error", {"code": "poison"}),
        ("http_error", {"status": 200}),
        ("http_error", {"status": 599}),
        ("memory_leak", {"cap_mb": 4096}),
        ("cpu_burn", {"share": 1.0}),
        ("cpu_burn", {"seconds": 301}),
    ],
)
def test_parameters_out_of_bounds_are_refused(
    app: FakeApp, fault: str, params: dict[str, Any]
) -> None:
    """With the fault's name and what is wrong."""

    async def story() -> None:
        with pytest.raises(BadFault, match=f"fault {fault}: "):
            made(app, fault, params=params)

    asyncio.run(story())


def test_what_nobody_sends_again_is_known() -> None:
    """Commands are re-driven and results repeated; every other message would be gone."""
    assert COMMANDS | RESULTS | UNSAFE_TO_LOSE == STRIKABLE
    assert not UNSAFE_TO_LOSE & (COMMANDS | RESULTS)
    assert {"order.created", "order.cancel", "order.operate", "order.reviewed"} <= UNSAFE_TO_LOSE
    assert MESSAGE_TOPICS.keys() - STRIKABLE == {"chaos.injected"}
    assert {name for name, one in KINDS.items() if one.loses} == {"drop", "corrupt"}


# Messages


async def test_drop_loses_a_delivery_once_and_writes_it_down(app: FakeApp, tmp_path: Path) -> None:
    """The same message comes through when it is sent again."""
    fault = made(app, "drop")
    fault.start()
    assert await offsets(app, record(offset=7, event="a"), record(offset=8, event="b")) == []
    assert await offsets(app, record(offset=9, event="a")) == [9]
    fault.stop()
    assert await offsets(app, record(offset=10, event="c")) == [10]
    lines = losses_of(tmp_path, "payment-1").read_text().splitlines()
    lost = [msgspec.json.decode(line) for line in lines]
    assert [(one["consumer"], one["topic"], one["offset"]) for one in lost] == [
        ("payment", COMMAND, 7),
        ("payment", COMMAND, 8),
    ]


@pytest.mark.parametrize(
    "spared",
    [
        record("order.created"),
        record("retry.5s"),
        record("payment.requested.dlt"),
        record("chaos.injected"),
        record(x_attempt="1"),
        record(x_redrives="1"),
        record(ce_type=Barrier.TYPE),
    ],
)
async def test_what_nobody_sends_again_is_not_lost(app: FakeApp, spared: ConsumerRecord) -> None:
    """Nor is a retry, a redrive or a barrier, whatever the rule says."""
    fault = made(app, "drop")
    fault.start()
    assert await offsets(app, spared) == [0]
    fault.stop()


async def test_a_rule_that_says_so_loses_it_all_the_same(app: FakeApp) -> None:
    """`unsafe` is for showing what a loss costs."""
    fault = made(app, "drop", unsafe=True)
    fault.start()
    assert await offsets(app, record("order.created")) == []
    fault.stop()


async def test_duplicate_sends_the_same_again(app: FakeApp) -> None:
    """Same id, same bytes; a dead letter is not doubled."""
    fault = made(app, "duplicate", params={"copies": 2})
    fault.start()
    assert await app.taps.on_send(output()) == [output()] * 3
    assert await app.taps.on_send(output("payment.requested.dlt")) == [
        output("payment.requested.dlt")
    ]
    fault.stop()
    assert await app.taps.on_send(output()) == (output(),)


async def test_corrupt_makes_json_that_nobody_can_read_and_spares_what_is_sent_again(
    app: FakeApp,
) -> None:
    """The first sending is damaged, the second is the message; headers stay."""
    fault = made(app, "corrupt")
    fault.start()
    (damaged,) = await app.taps.on_send(output())
    assert damaged.headers == output().headers
    assert damaged.value is not None
    assert len(damaged.value) == len(output().value or b"")
    with pytest.raises(UnicodeDecodeError):
        damaged.value.decode()
    assert await app.taps.on_send(output()) == [output()]
    assert await app.taps.on_send(output("order.created")) == [output("order.created")]
    assert await app.taps.on_send(output(event="e2", x_attempt="1")) == [
        output(event="e2", x_attempt="1")
    ]
    fault.stop()


async def test_reorder_moves_struck_records_among_their_places(app: FakeApp) -> None:
    """Nothing is lost or doubled; what is not in scope keeps its place; same seed, same order."""
    fault = made(app, "reorder", scope=Scope(topic=COMMAND))
    fault.start()
    records = [record(offset=n) for n in range(20)]
    records[5] = record("payment.refund", 5)
    found = await offsets(app, *records)
    assert sorted(found) == list(range(20))
    assert found != list(range(20))
    assert found[5] == 5
    fault.stop()
    again = made(app, "reorder", scope=Scope(topic=COMMAND))
    again.start()
    assert await offsets(app, *records) == found
    again.stop()


async def test_delay_holds_a_batch_until_it_is_stopped(app: FakeApp) -> None:
    """Within its bounds; the end of the fault lets it go at once."""
    fault = made(app, "delay", params={"min_ms": 40, "max_ms": 50})
    fault.start()
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await offsets(app, record()) == [0]
    assert loop.time() - began >= 0.04
    fault.stop()
    held = made(app, "delay", params={"min_ms": 5_000, "max_ms": 5_000})
    held.start()
    task = asyncio.create_task(offsets(app, record()))
    await asyncio.sleep(0)
    assert not task.done()
    held.stop()
    assert await asyncio.wait_for(task, 1) == [0]


async def test_a_message_that_passes_again_is_decided_anew(app: FakeApp) -> None:
    """Else whatever is sent again would be a victim for ever."""
    fault = made(app, "duplicate", p=0.5)
    fault.start()
    struck = [len(await app.taps.on_send(output())) == 2 for _ in range(64)]
    fault.stop()
    assert 10 < sum(struck) < 54


def test_seen_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(kind, "SEEN_MAX", 2)
    seen = kind.Seen()
    a, b, c = (kind.Passing(COMMAND, b"k", event, "", 0) for event in "abc")
    assert [seen.times(one) for one in (a, a, b, a, c, b)] == [0, 1, 0, 2, 0, 0]


# Handling


def events(records: Sequence[ConsumerRecord]) -> list[Any]:
    """What a handler is given for them."""
    return [
        SimpleNamespace(
            topic=one.topic,
            key=one.key,
            event_id=dict(one.headers)["ce_id"].decode(),
            type="payment.requested.v1",
            delivery=0,
            record=one,
        )
        for one in records
    ]


async def handle(app: FakeApp, records: Sequence[ConsumerRecord]) -> None:
    """Pass the points of a batch."""
    seen = await app.taps.on_read("payment", records)
    await failpoint("delivery.before_transaction", events(seen))
    await failpoint("delivery.in_transaction", events(seen))


@pytest.mark.parametrize(
    ("code", "error"), [("indefinite", Indefinite), ("poison", Poison)], ids=["tier", "dead letter"]
)
async def test_error_raises_for_the_struck_only(
    app: FakeApp, code: str, error: type[Exception]
) -> None:
    """A batch without a victim passes; the same one fails in every half that holds it."""
    fault = made(app, "error", scope=Scope(topic=COMMAND), params={"code": code})
    fault.start()
    with pytest.raises(error, match="rule"):
        await handle(app, [record("payment.refund", 1), record(offset=2)])
    await handle(app, [record("payment.refund", 1)])
    fault.stop()
    await handle(app, [record(offset=2)])


async def test_error_counts_a_victim_once_however_often_its_batch_is_split(app: FakeApp) -> None:
    """The decision is made before the transaction."""
    fault = made(app, "error")
    fault.start()
    batch = [record(offset=1), record(offset=2)]
    await app.taps.on_read("payment", batch)
    await failpoint("delivery.before_transaction", events(batch))
    for part in (batch, batch[:1], batch[1:]):
        with pytest.raises(Indefinite):
            await failpoint("delivery.in_transaction", events(part))
    assert fault.hits.struck == 2
    fault.stop()


async def test_what_another_role_of_the_process_handles_is_not_struck(app: FakeApp) -> None:
    """Failpoints are common to all roles of the monolith, a rule is not."""
    fault = made(app, "error")
    fault.start()
    theirs = [record(offset=3)]
    await failpoint("delivery.before_transaction", events(theirs))
    await failpoint("delivery.in_transaction", events(theirs))
    assert fault.hits.struck == 0
    fault.stop()


async def test_timeout_waits_and_is_indefinite_and_slow_only_waits(app: FakeApp) -> None:
    """What was done meanwhile is unknown in the one case, and done in the other."""
    loop = asyncio.get_running_loop()
    fault = made(app, "timeout", params={"after_ms": 30})
    fault.start()
    began = loop.time()
    with pytest.raises(Indefinite, match="no end within 30 ms"):
        await handle(app, [record()])
    assert loop.time() - began >= 0.03
    fault.stop()
    fault = made(app, "slow", params={"min_ms": 30, "max_ms": 30})
    fault.start()
    began = loop.time()
    await handle(app, [record()])
    assert loop.time() - began >= 0.03
    fault.stop()


async def test_crash_is_counted_on_disk_before_it_happens(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor of a worker that crashed as often as it may is not struck again."""
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    point = point_of("payment")
    fault = made(app, "crash", times=2)
    fault.start()
    await failpoint(point, events([record("order.created.dlt")]))
    assert ends == []
    await failpoint(point, events([record()]))
    assert ends == [137]
    fault.stop()
    for crashes in (2, 2):
        successor = made(app, "crash", times=2)
        successor.start()
        await failpoint(point, events([record(offset=3)]))
        successor.stop()
        assert len(ends) == crashes


async def crash(fault: Any, worker: str = "payment") -> None:
    """Start a fault, let a message come by its point, and end it as the process would."""
    fault.start()
    await failpoint(point_of(worker), events([record()]))
    fault.stop()


async def test_a_crash_is_counted_by_the_successor(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that dies can tell nobody; two that die untold are counted together, and once."""
    monkeypatch.setattr("os._exit", lambda _: None)
    point = point_of("payment")
    await crash(made(app, "crash", times=3))
    await crash(made(app, "crash", times=3))
    successor = made(app, "crash", times=3)
    successor.start()
    assert (successor.hits.struck, successor.hits.take()) == (2, {point: 2})
    successor.stop()
    again = made(app, "crash", times=3)
    again.start()
    assert again.hits.struck == 0
    again.stop()


async def test_a_renewed_rule_crashes_nobody_again_and_another_one_does(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same id and seed, later end: the same rule. Its crashes are forgotten once its lease is over;
    another seed, or an epoch after the kill switch, is another rule."""
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    await crash(made(app, "crash", seed=1, version=7))
    await crash(made(app, "crash", seed=1, version=9, expires_at=LATER + timedelta(days=1)))
    assert len(ends) == 1
    await crash(made(app, "crash", seed=2, version=11))
    await crash(made(app, "crash", seed=1, epoch=1, version=13))
    assert len(ends) == 3
    monkeypatch.setattr("time.time", lambda: LATER.timestamp() + 2 * 86_400)
    await crash(made(app, "crash", seed=1, version=15))
    assert len(ends) == 4


async def test_two_rules_that_crash_one_worker_keep_their_counts(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at each of two points: two crashes, whatever is started how often."""
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    points = ("delivery.after_commit", "delivery.before_transaction")
    for _ in range(3):
        faults = [
            made(app, "crash", scope=Scope(point=point), seed=seed)
            for seed, point in enumerate(points)
        ]
        for fault in faults:
            fault.start()
        for point in points:
            await failpoint(point, events([record()]))
        for fault in faults:
            fault.stop()
    assert len(ends) == 2


@pytest.mark.parametrize(
    "found", [b"", b"{", b"[]", b'{"rule@0.0": 1}', b'{"rule@0.0": {"crashes": "x"}}'],
    ids=["empty", "cut off", "list", "number", "text"],
)  # fmt: skip
async def test_a_file_of_crashes_that_cannot_be_read_is_written_anew(
    app: FakeApp, monkeypatch: pytest.MonkeyPatch, found: bytes
) -> None:
    """The worker starts all the same."""
    ends: list[int] = []
    monkeypatch.setattr("os._exit", ends.append)
    path = Path(app.settings.data_dir) / "payment-1.crashes.json"
    path.parent.mkdir()
    path.write_bytes(found)
    await crash(made(app, "crash"))
    await crash(made(app, "crash"))
    assert len(ends) == 1


def test_every_role_has_a_point_where_it_crashes() -> None:
    """One that its code passes."""
    for name, role in ROLES.items():
        if role.standard:
            assert name in POINTS[point_of(name)].roles


# Servers


async def test_pause_takes_topics_out_of_the_poll_until_its_end(app: FakeApp) -> None:
    """Two pauses do not lift each other; one ends by itself."""
    everything, one = made(app, "pause"), made(app, "pause", scope=Scope(topic=COMMAND))
    one.start()
    assert app.taps.paused == {COMMAND}
    everything.start()
    assert app.taps.paused == app.batch_topics
    everything.stop()
    assert app.taps.paused == {COMMAND}
    one.stop()
    assert not app.taps.paused
    brief = made(app, "pause", params={"max_s": 0.01})
    brief.start()
    assert app.taps.paused
    async with asyncio.timeout(5):
        while app.taps.paused:
            await asyncio.sleep(0.005)
    brief.stop()


@pytest.mark.parametrize(
    ("code", "error"),
    [("database_outage", DatabaseOutage), ("database_transient", TransientDatabase)],
)
async def test_db_error_is_the_servers_error(
    app: FakeApp, code: str, error: type[Exception]
) -> None:
    """And spares whoever ends faults."""
    fault = made(app, "db_error", params={"code": code})
    fault.start()
    with pytest.raises(error, match="rule"):
        await app.taps.on_statement()
    with exempt():
        await app.taps.on_statement()
    with pytest.raises(error):
        await app.taps.on_statement()
    fault.stop()
    await app.taps.on_statement()


async def test_db_latency_is_between_its_bounds_and_ends_at_once(app: FakeApp) -> None:
    """A statement under way goes on when the fault ends."""
    fault = made(app, "db_latency", params={"min_ms": 3_000, "max_ms": 3_000})
    fault.start()
    task = asyncio.create_task(app.taps.on_statement())
    await asyncio.sleep(0)
    assert not task.done()
    fault.stop()
    await asyncio.wait_for(task, 1)


# HTTP


async def served(app: FakeApp, *paths: str) -> TestClient[web.Request, web.Application]:
    """A server with the laboratory's middleware and views that say ok; it lets one in at a time."""
    application = web.Application(middlewares=[admit])
    application[ADMISSION] = Admission(1)

    async def ok(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    for path in paths:
        application.router.add_get(path, ok)
    on_http.install(cast(Any, app))
    for extend in app.web_extensions:
        extend(application)
    return TestClient(TestServer(application))


async def test_http_faults_strike_their_route_and_spare_what_ends_them(app: FakeApp) -> None:
    """An answer that was struck says by which rule."""
    client = await served(app, "/api/orders/{id}", "/api/products", "/api/chaos/rules")
    async with client:
        fault = made(
            app, "http_latency", scope=Scope(route="/api/orders/{id}"), params={"min_ms": 1}
        )
        fault.start()
        struck = await client.get("/api/orders/7")
        assert (struck.status, struck.headers[on_http.HEADER]) == (200, "rule")
        assert on_http.HEADER not in (await client.get("/api/products")).headers
        fault.stop()
        fault = made(app, "http_latency")
        fault.start()
        assert on_http.HEADER not in (await client.get("/api/chaos/rules")).headers
        fault.stop()
        assert on_http.HEADER not in (await client.get("/api/orders/7")).headers


async def test_http_timeout_is_silent_until_it_ends(app: FakeApp) -> None:
    """Then the request is handled after all."""
    client = await served(app, "/api/products")
    async with client:
        fault = made(app, "http_timeout")
        fault.start()
        task = asyncio.create_task(client.get("/api/products"))
        async with asyncio.timeout(5):
            while not fault.hits.struck:
                await asyncio.sleep(0.001)
        assert not task.done()
        fault.stop()
        assert (await asyncio.wait_for(task, 5)).status == 200


async def test_what_a_fault_holds_keeps_nobody_out_who_ends_it(app: FakeApp) -> None:
    """All places are taken by requests that wait; those that end or watch faults have their own."""
    client = await served(app, "/api/products", "/api/chaos/rules", "/api/gameday/runs")
    async with client:
        fault = made(app, "http_timeout")
        fault.start()
        held = asyncio.create_task(client.get("/api/products"))
        async with asyncio.timeout(5):
            while not fault.hits.struck:
                await asyncio.sleep(0.001)
        for path in ("/api/chaos/rules", "/api/gameday/runs"):
            assert (await client.get(path)).status == 200
        assert client.app is not None
        assert client.app[ADMISSION].running == 1
        fault.stop()
        assert (await asyncio.wait_for(held, 5)).status == 200


async def test_reserved_places_are_bounded_too(app: FakeApp) -> None:
    """As many as all others have together."""
    client = await served(app, "/api/chaos/rules")
    async with client:
        assert client.app is not None
        client.app[RESERVED].admission.running = 1
        assert (await client.get("/api/chaos/rules")).status == 500  # the edge would say 503
        client.app[RESERVED].admission.running = 0
        assert (await client.get("/api/chaos/rules")).status == 200


# Process


async def test_memory_leak_grows_to_its_cap_and_is_freed(app: FakeApp) -> None:
    """It never takes more than it may."""
    fault = made(app, "memory_leak", params={"mb_per_s": 200, "cap_mb": 2})
    fault.start()
    async with asyncio.timeout(10):
        while fault.kept_mb < 2:
            await asyncio.sleep(0.005)
    assert fault.kept_mb == 2
    fault.stop()
    assert fault.kept_mb == 0


async def test_cpu_burn_runs_in_a_thread_that_ends(app: FakeApp) -> None:
    """And lets the event loop go on."""

    def burning() -> int:
        return Counter(thread.name for thread in threading.enumerate())["cpu_burn"]

    fault = made(app, "cpu_burn", params={"share": 0.9})
    fault.start()
    assert burning() == 1
    for _ in range(20):
        await asyncio.sleep(0)
    fault.stop()
    async with asyncio.timeout(5):
        while burning():
            await asyncio.sleep(0.005)
