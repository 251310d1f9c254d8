"""Role slo and its readers on a real PostgreSQL: what is counted, kept, trimmed and told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.structs import ConsumerRecord
from typer.testing import CliRunner

from agents import slo
from agents.slo import Panes, letters_of, outcomes_of
from app.clock import ManualClock
from app.db import slo as rows
from app.db.engine import Database, Transaction
from app.delivery import Event, Ticked, Write
from app.delivery.decoding import letter_id, raw_events, to_event
from app.delivery.effects import Effects
from app.messages import Cause, OrderStatusChanged, decode, emit
from app.observability import metrics
from app.observability.families import REGISTRY
from app.settings import load_settings
from app.slo import objectives, outcomes, service
from app.slo.panes import COARSE_S, FINE_S, WINDOWS_S, Key, Pane, scheme_of, start_of, to_bytes
from app.slo.reading import CONSUMERS, read
from app.slo.report import Report
from app.slo.sketch import of
from app.topics import ORDER_STATUS_CHANGED
from chaos.console import slo as console
from tests.integration.api_client import Client, api, problem, query
from tests.integration.participants import opened

pytestmark = pytest.mark.integration

PARTITIONS = 4
NOW = datetime.fromisoformat("2026-11-28T12:00:07+00:00")
SCHEME = scheme_of(1)


class FakeStore:
    """The partitioned store of a Faust table, in memory."""

    offset_key = b"__offset"

    def __init__(self) -> None:
        self.partitions: dict[int, dict[bytes, bytes]] = {n: {} for n in range(PARTITIONS)}

    def _db_for_partition(self, partition: int) -> dict[bytes, bytes]:
        return self.partitions[partition]


class Role:
    """Handlers of the role over one database and one store, as the core would drive them."""

    def __init__(self, db: Database, **changes: Any) -> None:
        self.db = db
        self.settings = load_settings(role="slo", topic_partitions=PARTITIONS, **changes)
        self.clock = ManualClock(NOW)
        self.store = FakeStore()
        self.start()

    def start(self) -> None:
        """A worker starts: its handlers know what the table holds."""
        table = SimpleNamespace(name="slo_panes", data=self.store)
        self.outcomes = outcomes_of(self.settings, table, self.clock)
        self.letters = letters_of(self.settings, table, self.clock)
        for handler in (self.outcomes, self.letters):
            handler.recovered(range(PARTITIONS))

    async def count(self, *events: Event, handler: Panes | None = None) -> None:
        """One batch, committed and written."""
        handler = handler or self.outcomes
        wanted = [one for one in events if handler is self.letters or self.outcomes.concerns(one)]
        if not wanted:
            return
        async with self.db.transaction() as tx:
            applied = await handler.apply(tx, wanted, self.clock.now())
        for event, one in zip(wanted, applied, strict=True):
            self.write(handler, event.partition, one.writes)

    async def tick(self, handler: Panes | None = None) -> list[Ticked]:
        """One tick of every partition."""
        handler, done = handler or self.outcomes, list[Ticked]()
        for partition in range(PARTITIONS):
            async with self.db.transaction() as tx:
                ticked = await handler.tick(tx, partition, self.clock.now())
            for one in ticked:
                self.write(handler, partition, one.applied.writes)
            done += ticked
        return done

    def write(self, handler: Panes, partition: int, writes: Sequence[Write]) -> None:
        """What the core does with table entries."""
        for one in writes:
            if one.value is None:
                self.store.partitions[partition].pop(one.key, None)
            else:
                self.store.partitions[partition][one.key] = one.value
        handler.written(partition, writes)

    async def caught_up(self) -> None:
        """Both consumers say that they have read everything, now."""
        self.clock.advance(self.settings.slo_progress_interval_s)
        await self.tick()
        await self.tick(self.letters)

    async def told(self) -> Report:
        """What there is to tell, now."""
        return await read(self.db, self.settings, self.clock.now())


@pytest.fixture
async def role(database: str) -> AsyncIterator[Role]:
    """The role over a fresh database."""
    async with opened(database) as db:
        yield Role(db)


def change(
    status: str = "COMPLETED",
    reason: str = "",
    *,
    took_s: float = 1.0,
    at: datetime = NOW,
    received: datetime | None = None,
    partition: int = 1,
    held: bool = False,
) -> Event:
    """A change of an order's status, that happened at `at` and lay in the topic at `received`."""
    order_id = str(uuid4())
    body = OrderStatusChanged(
        order_id=order_id,
        status=status,
        reason=reason,
        saga_version=4,
        created_at=at - timedelta(seconds=took_s),
        held=held,
    )
    output = emit(
        Cause(order_id, order_id), ORDER_STATUS_CHANGED, body,
        event_id=str(uuid4()), now=at, source="test",
    )  # fmt: skip
    record = record_of(output.topic, partition, output.headers, output.key, output.value,
                       received or at)  # fmt: skip
    return to_event(record, decode(record.topic, record.headers, record.key, record.value))


def letter(at: datetime = NOW, partition: int = 2, offset: int = 0) -> Event:
    """A dead letter, whatever is in it."""
    record = record_of("payment.requested.dlt", partition, [("x", b"y")], b"k", b"junk", at, offset)
    return raw_events([record])[0]


def record_of(
    topic: str, partition: int, headers: Iterable[tuple[str, bytes]], key: bytes | None,
    value: bytes | None, at: datetime, offset: int = 0,
) -> ConsumerRecord:  # fmt: skip
    return ConsumerRecord(
        topic, partition, offset, int(at.timestamp() * 1000), 1, key, value, None, 0, 0,
        tuple(headers),
    )  # fmt: skip


def stored(dsn: str) -> dict[tuple[int, Key], Pane]:
    """All panes, read past the product."""
    found = query(
        dsn,
        "select partition, sli, width_s, extract(epoch from start_at)::bigint, good, bad, sketch"
        " from slo.pane",
    )
    return {
        (row[0], Key(row[1], row[2], row[3])): Pane(
            row[4], row[5], rows.sketch_from_json(json.dumps(row[6]))
        )
        for row in found
    }


def in_table(role: Role) -> dict[tuple[int, Key], bytes]:
    """All entries of the table."""
    return {
        (partition, Key.unpacked(key)): value
        for partition, entries in role.store.partitions.items()
        for key, value in entries.items()
    }


def by_name(report: Report) -> dict[str, Any]:
    return {one.name: one for one in report.objectives}


def windows(report: Report, name: str) -> dict[str, tuple[int | None, int | None]]:
    return {one.window: (one.good, one.bad) for one in by_name(report)[name].windows}


async def test_an_event_counts_in_its_panes_in_postgresql_and_table(
    role: Role, database: str
) -> None:
    """Fine and coarse, of its own time and partition; the table holds what PostgreSQL holds."""
    earlier = NOW - timedelta(seconds=25)
    await role.count(change(took_s=0.5), change(took_s=3.0), change(took_s=1.0, at=earlier))
    await role.count(change("CANCELLED", "timeout", partition=0))
    panes = stored(database)
    fine, coarse = start_of(NOW.timestamp(), FINE_S), start_of(NOW.timestamp(), COARSE_S)
    before = start_of(earlier.timestamp(), FINE_S)
    assert panes[1, Key("completion", FINE_S, fine)] == Pane(1, 1, of((0.5, 3.0)))
    assert panes[1, Key("completion", FINE_S, before)] == Pane(1, 0, of((1.0,)))
    early = start_of(earlier.timestamp(), COARSE_S)
    assert panes[1, Key("availability", COARSE_S, coarse)].good == 2
    assert panes[1, Key("availability", COARSE_S, early)].good == 1
    assert panes[0, Key("availability", FINE_S, fine)] == Pane(0, 1)
    assert panes[0, Key("fraud", FINE_S, fine)] == Pane(1, 0)
    assert in_table(role) == {place: to_bytes(pane) for place, pane in panes.items()}


async def test_a_change_that_says_nothing_leaves_no_trace(role: Role, database: str) -> None:
    """Most changes of status are steps on the way: no pane, and (in the core) no inbox row."""
    steps = ("PAYMENT_PENDING", "INVENTORY_PENDING", "SHIPPING_PENDING", "COMPENSATING")
    assert not any(role.outcomes.concerns(change(step)) for step in steps)
    assert all(role.outcomes.concerns(change(one)) for one in outcomes.COUNTED)
    await role.count(*(change(step) for step in steps))
    assert stored(database) == {}


async def test_odd_events_are_counted_as_odd_and_harm_nothing(role: Role, database: str) -> None:
    """From the future, from long ago, and completed before they began: each its own way."""

    def odd(kind: str) -> float:
        return metrics.SLO_ODD_EVENTS.child(kind)._value.get()  # type: ignore[no-any-return]

    before = {kind: odd(kind) for kind in ("future", "ancient", "negative")}
    await role.count(
        change(at=NOW + timedelta(hours=2), received=NOW, took_s=1.0),
        change(at=NOW - timedelta(days=9), received=NOW),
        change(took_s=-3.0),
    )
    assert {kind: odd(kind) - before[kind] for kind in before} == dict.fromkeys(before, 1)
    panes = stored(database)
    assert {key.start_s for _, key in panes} == {
        start_of(NOW.timestamp(), FINE_S), start_of(NOW.timestamp(), COARSE_S)
    }  # fmt: skip
    assert panes[1, Key("availability", COARSE_S, start_of(NOW.timestamp(), COARSE_S))].good == 2
    sketched = panes[1, Key("completion", COARSE_S, start_of(NOW.timestamp(), COARSE_S))]
    assert sketched == Pane(1, 0, of((1.0,)))


async def test_a_worker_that_died_before_its_table_write_is_repaired(
    role: Role, database: str
) -> None:
    """The re-delivered events bring back the panes as PostgreSQL has them, later ones included."""
    first, second = change(took_s=0.5), change(took_s=1.5)
    async with role.db.transaction() as tx:
        await role.outcomes.apply(tx, [first], role.clock.now())
    assert in_table(role) == {}
    role.start()
    await role.count(second)
    async with role.db.transaction() as tx:
        restored = await role.outcomes.restore(tx, [first, second])
    role.write(role.outcomes, 1, [one for writes in restored for one in writes])
    panes = stored(database)
    assert in_table(role) == {place: to_bytes(pane) for place, pane in panes.items()}
    assert panes[1, Key("availability", FINE_S, start_of(NOW.timestamp(), FINE_S))].good == 2


async def test_a_rolled_back_batch_counts_nothing(role: Role, database: str) -> None:
    """What the inbox claim refuses was never counted."""
    event = change()

    async def fail(tx: Transaction) -> None:
        await role.outcomes.apply(tx, [event], role.clock.now())
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        async with role.db.transaction() as tx:
            await fail(tx)
    assert stored(database) == {}
    await role.count(event)
    assert {pane.good for pane in stored(database).values()} == {1}


async def test_two_writers_of_one_partition_lose_no_count(role: Role, database: str) -> None:
    """A suspended worker and its successor write the same pane one after the other."""

    async def one() -> None:
        async with role.db.transaction() as tx:
            await role.outcomes.apply(tx, [change()], role.clock.now())

    await asyncio.gather(*(one() for _ in range(20)))
    assert {pane.good for pane in stored(database).values()} == {20}


async def test_panes_leave_both_when_no_window_needs_them(role: Role, database: str) -> None:
    """Fine ones after an hour, coarse ones after three days; what is new stays."""
    await role.count(change(), change("CANCELLED", "timeout", partition=3))
    await role.count(letter(), handler=role.letters)
    assert await role.tick() == []
    role.clock.advance(SCHEME.fine_kept_s + FINE_S)
    for handler in (role.outcomes, role.letters):
        assert await role.tick(handler)
    assert {key.width_s for _, key in stored(database)} == {COARSE_S}
    assert in_table(role).keys() == stored(database).keys()
    await role.count(change(at=role.clock.now()))
    role.clock.advance(SCHEME.coarse_kept_s)
    for handler in (role.outcomes, role.letters):
        await role.tick(handler)
    assert {key.width_s for _, key in stored(database)} == {COARSE_S}
    assert len(stored(database)) == 3
    assert in_table(role).keys() == stored(database).keys()


async def test_a_letter_that_was_published_twice_counts_once(role: Role, database: str) -> None:
    """A worker that is killed between its letter and its commit publishes the letter again; one
    that comes back from a redrive is another letter."""

    async def run(attempt: Any) -> Any:
        return await attempt()

    def lettered(offset: int, redrives: bytes) -> Event:
        headers = {"x-original-topic": b"payment.requested", "x-original-partition": b"2",
                   "x-original-offset": b"5", "x-retry-role": b"payment", "x-attempt": b"4",
                   "x-redrives": redrives}  # fmt: skip
        record = record_of("payment.requested.dlt", 2, headers.items(), b"k", b"junk", NOW, offset)
        return raw_events([record], letter_id)[0]

    app: Any = SimpleNamespace(db=role.db, clock=role.clock, settings=role.settings)
    core: Any = SimpleNamespace(run=run, admit=lambda _: None)
    effects = Effects(app, slo.LETTERS, role.letters, core, core)
    for batch in ([lettered(0, b"0")], [lettered(1, b"0"), lettered(2, b"1")]):
        for one in await effects.apply(batch):
            role.write(role.letters, one.partition, one.writes)
    panes = stored(database)
    assert {pane.bad for pane in panes.values()} == {2}
    assert in_table(role) == {place: to_bytes(pane) for place, pane in panes.items()}


async def test_what_a_rolled_back_tick_took_is_taken_again(role: Role, database: str) -> None:
    """And a new worker finds it due by its table alone."""
    await role.count(change())
    role.clock.advance(SCHEME.coarse_kept_s + COARSE_S)

    async def fail() -> None:
        async with role.db.transaction() as tx:
            await role.outcomes.tick(tx, 1, role.clock.now())
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await fail()
    assert len(in_table(role)) == 6
    role.start()
    assert len(await role.tick()) == 6
    assert (stored(database), in_table(role)) == ({}, {})


async def test_the_counters_count_each_event_once(role: Role) -> None:
    """A restored pane adds nothing that was counted before."""

    def counted() -> float:
        labels = {"sli": "availability", "outcome": "good"}
        return REGISTRY.get_sample_value("symphony_slo_events_total", labels) or 0

    before, event = counted(), change()
    await role.count(event)
    async with role.db.transaction() as tx:
        restored = await role.outcomes.restore(tx, [event])
    role.write(role.outcomes, 1, restored[0])
    assert counted() - before == 1


async def test_a_new_worker_tells_what_its_table_holds(role: Role) -> None:
    """On /status, from the recovered table alone."""
    await role.count(change(), change("PARKED", partition=3))
    before = role.outcomes.said()
    assert before["availability"] == {"panes": 4, "good": 1, "bad": 1}
    role.start()
    assert role.outcomes.said() == before
    assert role.letters.said() == {"dead_letters": {"panes": 0, "good": 0, "bad": 0}}


async def test_the_report_says_what_was_counted(role: Role) -> None:
    """By objective and window, with quantiles, burn rates, budget and alerts."""
    await role.count(*(change(took_s=took_s) for took_s in (0.1, 0.2, 0.4, 3.0)))
    await role.count(change("PARKED"), change("REVIEW", held=True))
    await role.count(change(at=NOW - timedelta(hours=5), received=NOW, took_s=1.0))
    await role.count(letter(), letter(offset=1), handler=role.letters)
    await role.caught_up()
    report = await role.told()
    assert not report.stale
    assert windows(report, "completion")["5m"] == (3, 1)
    assert windows(report, "completion")["6h"] == (4, 1)
    assert windows(report, "availability")["1m"] == (4, 1)
    assert windows(report, "availability")["3d"] == (5, 1)
    assert windows(report, "fraud")["1h"] == (4, 1)
    assert windows(report, "dead_letters")["3d"] == (6, 2)
    assert report.dlt_count == 2
    completion = by_name(report)["completion"]
    assert completion.error_ratio == pytest.approx(0.2)
    assert completion.budget_left == pytest.approx(-3.0)
    assert (completion.state, completion.exhaustion_s) == ("exhausted", 0.0)
    burning = max(one.burn_rate for name in by_name(report)
                  for one in by_name(report)[name].windows if one.window == "1h")  # fmt: skip
    assert report.slo_burn_rate_1h == pytest.approx(burning) == pytest.approx(2 / 7 / 0.003)
    latency = {one.window: one for one in report.latency}
    assert latency["5m"].orders == 4
    assert latency["5m"].p95_ms == report.p95_latency == pytest.approx(400, rel=0.01)
    assert latency["6h"].p50_ms == pytest.approx(400, rel=0.01)
    assert latency["1m"].outcomes_per_s == pytest.approx(5 / 60)


async def test_without_data_nothing_is_known_and_nothing_is_healthy(role: Role) -> None:
    """An empty window is null, not 0; a window without a bad event is 0."""
    await role.caught_up()
    empty = await role.told()
    assert (empty.stale, empty.p95_latency, empty.dlt_count) == (False, None, None)
    assert empty.slo_burn_rate_1h is None
    assert {one.state for one in empty.objectives} == {"unknown"}
    assert all(alert.firing is None for one in empty.objectives for alert in one.alerts)
    await role.count(change(at=role.clock.now(), took_s=0.1))
    await role.caught_up()
    told = await role.told()
    assert {one.state for one in told.objectives} == {"ok"}
    assert (told.slo_burn_rate_1h, told.dlt_count) == (0.0, 0)
    role.clock.advance(3600)
    await role.caught_up()
    later = await role.told()
    assert {one.state for one in later.objectives} == {"unknown"}
    assert windows(later, "availability")["5m"] == (None, None)
    assert by_name(later)["availability"].budget_left == 1.0


async def test_stale_data_are_unknown(role: Role) -> None:
    """While the role is away the age grows; beyond the bound nothing is known any more."""
    await role.count(change())
    await role.caught_up()
    assert not (await role.told()).stale
    role.clock.advance(role.settings.slo_stale_after_s + 1)
    stale = await role.told()
    assert stale.stale
    assert stale.data_age_s == pytest.approx(role.settings.slo_stale_after_s + 1)
    assert {one.state for one in stale.objectives} == {"unknown"}
    assert (stale.p95_latency, stale.slo_burn_rate_1h) == (None, None)


async def test_one_partition_that_is_not_read_makes_the_whole_unknown(
    role: Role, database: str
) -> None:
    """The age is that of the partition that is furthest behind."""
    await role.count(change())
    await role.caught_up()
    query(database, "delete from slo.progress where consumer = 'slo-letters' and partition = 3")
    report = await role.told()
    assert (report.data_age_s, report.stale, report.p95_latency) == (None, True, None)


async def test_a_time_scale_shortens_windows_and_panes(database: str) -> None:
    """At 60 an hour is a minute: a GameDay can watch a budget burn and recover."""
    async with opened(database) as db:
        role = Role(db, slo_time_scale=60)
        await role.count(*(change(took_s=5.0) for _ in range(3)))
        await role.caught_up()
        report = await role.told()
        assert report.time_scale == 60
        assert windows(report, "completion")["5m"] == (0, 3)
        assert by_name(report)["completion"].state == "page"
        role.clock.advance(60)
        await role.count(change(at=role.clock.now(), took_s=0.5))
        await role.caught_up()
        report = await role.told()
        assert windows(report, "completion")["5m"] == (1, 0)
        assert windows(report, "completion")["1h"] == (1, 0)
        assert by_name(report)["completion"].windows[-1].seconds == 4320


async def test_gauges_are_absent_while_nothing_is_known(role: Role) -> None:
    """No series is better than a 0 that looks healthy."""

    def burning() -> set[tuple[str, ...]]:
        return set(metrics.SLO_BURN._children)

    await role.count(change(took_s=0.5))
    await role.caught_up()
    service.show(await role.told())
    assert ("completion", "5m") in burning()
    assert metrics.SLO_LATENCY.child("0.95", "5m")._value.get() == pytest.approx(0.5, rel=0.01)
    assert metrics.SLO_TARGET.child("availability")._value.get() == 0.995
    role.clock.advance(3600)
    service.show(await role.told())
    assert burning() == set(metrics.SLO_LATENCY._children) == set()
    service.show(None)
    assert not metrics.SLO_AGE._children


async def test_a_change_of_an_alert_is_logged_once(
    role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    """When it begins and when it ends, not at every look."""
    log = service.AlertLog()
    caplog.set_level("INFO", logger=service.__name__)
    await role.count(*(change(took_s=9.0) for _ in range(3)))
    await role.caught_up()
    for _ in range(2):
        log.tell(await role.told())
    assert sorted(set(caplog.messages)) == ["slo.alert_firing"]
    firing = len(caplog.messages)
    role.clock.advance(4 * 86_400)
    for _ in range(2):
        log.tell(await role.told())
    assert caplog.messages[firing:] == ["slo.alert_unknown"] * firing


@pytest.fixture
async def client(database: str, role: Role) -> AsyncIterator[Client]:
    """The API over a database in which something was counted, as of now."""
    role.clock.advance((datetime.now(NOW.tzinfo) - NOW).total_seconds())
    await role.count(*(change(at=role.clock.now(), took_s=0.5) for _ in range(3)))
    await role.count(*(change("PARKED", at=role.clock.now()) for _ in range(3)))
    await role.caught_up()
    async with api(database, topic_partitions=PARTITIONS, slo_stale_after_s=600) as running:
        yield running


async def test_the_api_tells_the_fields_of_the_references_and_ours(client: Client) -> None:
    """p95Latency, dltCount and sloBurnRate1h beside objectives, windows and latencies."""
    found = await (await client.get("/api/metrics/slo")).json()
    assert found["p95Latency"] == pytest.approx(500, rel=0.01)
    assert found["dltCount"] == 0
    assert found["sloBurnRate1h"] == pytest.approx(100)
    assert found["stale"] is False
    assert {one["name"] for one in found["objectives"]} == set(objectives.declared())
    one = await (await client.get("/api/slo/availability")).json()
    assert [each["window"] for each in one["windows"]] == list(WINDOWS_S)
    assert {each["firing"] for each in one["alerts"]} == {True}
    assert (one["state"], one["budgetLeft"]) == ("page", pytest.approx(-99))


async def test_an_unknown_objective_names_the_known_ones(client: Client) -> None:
    """404 with what to ask for instead."""
    told = await problem(await client.get("/api/slo/latency"), 404)
    assert told["code"] == "unknown_objective"
    assert all(name in told["detail"] for name in objectives.declared())


async def test_a_web_worker_reads_once_for_all_who_ask_at_the_same_time(
    client: Client, database: str
) -> None:
    """Answers of one second are one read."""
    answers = await asyncio.gather(*(client.get("/api/metrics/slo") for _ in range(20)))
    assert len({await one.text() for one in answers}) == 1


async def test_an_empty_platform_answers_with_nulls(database: str) -> None:
    """Before role slo ever worked: unknown, by 200."""
    async with api(database) as client:
        found = await (await client.get("/api/metrics/slo")).json()
    assert (found["dataAgeS"], found["stale"], found["sloBurnRate1h"]) == (None, True, None)


async def test_a_broken_file_is_said_so_by_the_api(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with file and reason, to the command as well; never an internal error."""
    (tmp_path / "broken.yaml").write_text("kind: SLO")
    monkeypatch.setattr(objectives, "FILES", tmp_path)
    objectives.declared.cache_clear()
    try:
        told = await problem(await client.get("/api/slo/fraud"), 503)
        assert told["code"] == "broken_objective"
        assert "broken.yaml: " in told["detail"]
        shown = await symphony("slo", "status", "--url", str(client.make_url("")))
        assert shown.exit_code == 1
        assert "broken.yaml: " in str(shown.exception)
    finally:
        objectives.declared.cache_clear()


async def symphony(*arguments: str) -> Any:
    """The command, in a thread of its own."""
    return await asyncio.to_thread(CliRunner().invoke, _command(), list(arguments))


def _command() -> Any:
    import typer

    command = typer.Typer()
    console.register(command)
    command.command("other")(lambda: None)
    return command


async def test_the_command_shows_objectives_windows_and_latencies(client: Client) -> None:
    """As tables, as JSON, one objective, and as a check."""
    url = ("--url", str(client.make_url("")))
    shown = await symphony("slo", "status", *url)
    assert shown.exit_code == 0
    for word in ("availability", "page", "burning faster than 14.4 times over 1h and 5m", "p95 ms"):
        assert word in shown.output
    assert "\x1b[" not in shown.output
    listed = json.loads((await symphony("slo", "status", *url, "--json")).output)
    assert len(listed["objectives"]) == 4
    one = await symphony("slo", "status", "fraud", *url)
    assert "Orders are decided without waiting for a person" in one.output
    assert (await symphony("slo", "status", "fraud", "--check", *url)).exit_code == 0
    assert (await symphony("slo", "status", "--check", *url)).exit_code == 3
    unknown = await symphony("slo", "status", "latency", *url)
    assert unknown.exit_code == 1
    assert "there are: availability, completion" in str(unknown.exception)


async def test_the_command_watches_line_by_line(client: Client) -> None:
    """So many looks, then it ends; one JSON document a line."""
    url = ("--url", str(client.make_url("")), "--looks", "2", "--every", "0.2")
    watched = await symphony("slo", "watch", *url)
    assert watched.exit_code == 0
    assert [line.count("availability page") for line in watched.output.splitlines()] == [1, 1]
    told = await symphony("slo", "watch", *url, "--json")
    assert [json.loads(line)["stale"] for line in told.output.splitlines()] == [False, False]


async def test_the_command_lists_what_is_declared_without_a_server() -> None:
    """The OpenSLO files alone."""
    listed = await symphony("slo", "ls")
    assert listed.exit_code == 0
    assert all(name in listed.output for name in objectives.declared())
    assert [one["name"] for one in json.loads((await symphony("slo", "ls", "--json")).output)]


async def test_a_full_store_is_read_quickly(role: Role, database: str) -> None:
    """Three days of panes of four partitions: bounded rows, two statements, no page of panes is
    left out."""
    fill(database)
    await role.caught_up()
    began = asyncio.get_running_loop().time()
    report = await role.told()
    took_s = asyncio.get_running_loop().time() - began
    counted = windows(report, "completion")
    assert counted["3d"] == (865 * PARTITIONS * 9, 865 * PARTITIONS)
    assert counted["5m"] == (31 * PARTITIONS * 9, 31 * PARTITIONS)
    assert report.p95_latency is not None
    assert took_s < 5


def fill(dsn: str) -> None:
    """Panes of all that is kept, ten completions each, with sketches of sixty buckets."""
    sketch = {"zero": 0, "buckets": {str(n): 1 for n in range(60)}}
    for width_s, kept_s in ((FINE_S, SCHEME.fine_kept_s), (COARSE_S, SCHEME.coarse_kept_s)):
        last = start_of(NOW.timestamp(), width_s)
        query(
            dsn,
            "insert into slo.pane select sli, %s, to_timestamp(%s - n * %s), p, 9, 1,"
            " case sli when 'completion' then %s::jsonb else '{\"zero\":0,\"buckets\":{}}' end,"
            " now() from generate_series(0, %s) n, generate_series(0, 3) p,"
            " unnest(array['completion', 'availability', 'fraud', 'dead_letters']) sli",
            width_s, last, width_s, json.dumps(sketch), int(kept_s // width_s) - 1,
        )  # fmt: skip


def test_the_names_of_the_consumers_are_those_whose_progress_is_awaited() -> None:
    """Inbox, progress and readers speak of the same two."""
    assert (slo.NAME, slo.LETTERS) == CONSUMERS
