"""Service levels: what counting an order costs, how fast three days of panes are read, and how far
the sketch's quantiles are from the exact ones.

Real PostgreSQL, no Kafka: batches go through the handler of role slo as the delivery core drives
it, with the claim of their inbox rows. What the whole role costs an order, Kafka and ticks
included, is in the table of `bench.orders`.

    python -m bench.slo --orders 20000 --batch 50 --reads 200

`--visible N` measures something else, on a lab: how soon each of N orders shows in the API
(`bench.visible`); it ends with 1 when the bound is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from aiokafka.structs import ConsumerRecord

from agents.slo import NAME, Outcomes, outcomes_of
from app.clock import SystemClock
from app.db import inbox
from app.db.engine import Database, statement
from app.db.inbox import Claim, Status
from app.db.migrate import upgrade
from app.delivery import Event
from app.delivery.decoding import to_event
from app.messages import Cause, OrderStatusChanged, decode, emit, pack
from app.settings import load_settings
from app.slo.panes import COARSE_S, FINE_S, scheme_of, start_of
from app.slo.reading import CONSUMERS, read
from app.slo.report import QUANTILES
from app.slo.sketch import of, quantile
from app.topics import ORDER_STATUS_CHANGED
from bench import accounting, machine, report, visible
from chaos.lab.postgres import Postgres

PARTITIONS = 4
SAMPLES = 200_000
BUCKETS = 100
"""Buckets of a filled pane: latencies of two orders of magnitude."""

_FILL = statement(
    """
    insert into slo.pane
    select sli, :width_s, to_timestamp(:last_s - n * :width_s), p, 90, 10,
           case sli when 'completion' then
               (select jsonb_build_object('zero', 0, 'buckets', jsonb_object_agg(b::text, 1))
                  from generate_series(1, :buckets) b)
           else '{"zero": 0, "buckets": {}}'::jsonb end, now()
      from generate_series(0, :panes) n, generate_series(0, :partitions) p,
           unnest(array['completion', 'availability', 'fraud', 'dead_letters']) sli
    on conflict do nothing
    """
)
_PROGRESS = statement(
    "insert into slo.progress select consumer, p, now() from generate_series(0, :partitions) p,"
    " unnest(:consumers ::text[]) consumer on conflict (consumer, partition) do update"
    " set at = excluded.at"
)
_ANALYZE = statement("analyze slo.pane")


class MemoryStore:
    """What the handler needs of a table's store."""

    offset_key = b"offset"

    def __init__(self) -> None:
        self.partitions: dict[int, dict[bytes, bytes]] = {n: {} for n in range(PARTITIONS)}

    def _db_for_partition(self, partition: int) -> dict[bytes, bytes]:
        return self.partitions[partition]


def completed(number: int, took_s: float) -> Event:
    """The change of status that ends an order, as its consumer sees it."""
    order_id, now = str(uuid4()), datetime.now(UTC)
    body = OrderStatusChanged(order_id=order_id, status="COMPLETED", saga_version=5,
                              created_at=now - timedelta(seconds=took_s))  # fmt: skip
    output = emit(Cause(order_id, order_id), ORDER_STATUS_CHANGED, body, event_id=str(uuid4()),
                  now=now, source="bench")  # fmt: skip
    record = ConsumerRecord(output.topic, number % PARTITIONS, number, int(now.timestamp() * 1000),
                            1, output.key, output.value, None, 0, 0,
                            tuple(output.headers))  # fmt: skip
    return to_event(record, decode(record.topic, record.headers, record.key, record.value))


async def count(db: Database, handler: Outcomes, events: Sequence[Event]) -> None:
    """One batch: panes, inbox rows, COMMIT, and what the handler keeps in mind."""
    packed = pack(())
    async with db.transaction(guessing=True) as tx:
        applied = await handler.apply(tx, events, datetime.now(UTC))
        claims = [Claim(one.event_id, Status.DONE, 0, packed, one.topic, one.partition, one.offset)
                  for one in events]  # fmt: skip
        await inbox.claim(tx, NAME, claims)
    for event, one in zip(events, applied, strict=True):
        handler.written(event.partition, one.writes)


async def measure_counting(
    db: Database, postgres: Postgres, orders: int, batch: int
) -> dict[str, float]:
    """CPU of counting, per order, here and in PostgreSQL; decoding is not part of it."""
    settings = load_settings(role="slo", topic_partitions=PARTITIONS)
    table = SimpleNamespace(name="slo_panes", data=MemoryStore())
    handler = outcomes_of(settings, table, SystemClock())
    handler.recovered(range(PARTITIONS))
    draw = random.Random(1)
    events = [completed(number, draw.lognormvariate(-1.5, 0.6)) for number in range(orders)]
    assert postgres.pid is not None
    began, here, there = time.perf_counter(), time.process_time(), accounting.cpu_s(postgres.pid)
    for first in range(0, orders, batch):
        await count(db, handler, events[first : first + batch])
    here, there = time.process_time() - here, accounting.cpu_s(postgres.pid) - there
    return {
        "orders": orders,
        "batch": batch,
        "orders_per_s": round(orders / (time.perf_counter() - began)),
        "role_us": round(here / orders * 1e6, 1),
        "postgresql_us": round(there / orders * 1e6, 1),
    }


async def measure_reading(db: Database, reads: int) -> dict[str, Any]:
    """Milliseconds of judging all objectives from all panes that are ever kept."""
    settings = load_settings(role="slo", topic_partitions=PARTITIONS)
    scheme, now = scheme_of(1), datetime.now(UTC)
    for width_s, kept_s in ((FINE_S, scheme.fine_kept_s), (COARSE_S, scheme.coarse_kept_s)):
        await db.execute(
            _FILL,
            width_s=width_s,
            last_s=float(start_of(now.timestamp(), width_s)),
            panes=int(kept_s // width_s),
            partitions=PARTITIONS - 1,
            buckets=BUCKETS,
        )
    await db.execute(_ANALYZE)
    await db.execute(_PROGRESS, partitions=PARTITIONS - 1, consumers=list(CONSUMERS))
    seconds = []
    for _ in range(reads):
        began = time.perf_counter()
        told = await read(db, settings, datetime.now(UTC))
        seconds.append(time.perf_counter() - began)
        assert told.p95_latency is not None
    rows = await db.fetch(statement("select count(*) from slo.pane"))
    return {"panes": rows[0][0], "reads": reads, "ms": report.percentiles(seconds, 1000)}


def measure_sketch() -> list[dict[str, float]]:
    """The largest deviation of each quantile over distributions of several shapes, in per cent."""
    worst = dict.fromkeys(QUANTILES, 0.0)
    for seed, sigma in enumerate((0.2, 0.6, 1.2, 2.0)):
        draw = random.Random(seed)
        values = sorted(draw.lognormvariate(-1.0, sigma) for _ in range(SAMPLES))
        sketch = of(values)
        for q in QUANTILES:
            found, exact = quantile(sketch, q), values[int(q * (SAMPLES - 1))]
            assert found is not None
            worst[q] = max(worst[q], abs(found - exact) / exact)
    return [{"quantile": q, "worst_percent": round(100 * error, 3)} for q, error in worst.items()]


async def measure(options: argparse.Namespace, postgres: Postgres, dsn: str) -> dict[str, Any]:
    """All three."""
    settings = load_settings(role="slo", postgres_dsn=dsn)
    db = await Database.open(settings, application_name="bench")
    try:
        counting = await measure_counting(db, postgres, options.orders, options.batch)
        reading = await measure_reading(db, options.reads)
    finally:
        await db.close()
    return {"counting": counting, "reading": reading, "sketch": measure_sketch()}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--orders", type=int, default=20_000, help="outcomes counted")
    parser.add_argument("--batch", type=int, default=50, help="outcomes of one transaction")
    parser.add_argument("--reads", type=int, default=200, help="reads of three days of panes")
    parser.add_argument(
        "--visible", type=int, default=0, metavar="N",
        help="only this, on a lab: how soon N orders show in the API",
    )  # fmt: skip
    parser.add_argument("--name", default="slo", help="of the result's files")
    parser.add_argument("--force", action="store_true", help="measure a busy machine all the same")
    options = parser.parse_args()
    if min(options.orders, options.batch, options.reads) < 1:
        parser.error("--orders, --batch and --reads must be at least 1")
    facts = machine.checked(force=options.force)
    if options.visible > 0:
        sys.exit(show_visible(options, facts))
    with tempfile.TemporaryDirectory(prefix="bench-slo-") as place:
        directory = Path(place)
        directory.chmod(0o755)
        postgres = Postgres(directory / "postgres")
        try:
            postgres.start()
            dsn = postgres.dsn_of("postgres")
            upgrade(dsn)
            found = asyncio.run(measure(options, postgres, dsn))
        finally:
            postgres.kill()
    path = report.write(
        options.name, "Service levels: cost of counting, time of reading, error of the sketch",
        {**facts, **found}, _body(found),
    )  # fmt: skip
    print(path.read_text())


def show_visible(options: argparse.Namespace, facts: dict[str, Any]) -> bool:
    """Measure how soon orders show and write the result: whether the bound is not kept."""
    found = visible.measure(options.visible)
    late, lines = visible.table(found)
    name = f"{options.name}-visible"
    path = report.write(name, "Service levels: how soon an order counts", {**facts, **found}, lines)
    print(path.read_text())
    return late


def _body(found: dict[str, Any]) -> list[str]:
    counting, reading = found["counting"], found["reading"]
    return [
        *report.table(list(counting), [list(counting.values())]),
        "",
        f"All objectives judged from {reading['panes']:,} panes, {reading['reads']} times, ms:",
        "",
        *report.table(list(reading["ms"]), [list(reading["ms"].values())]),
        "",
        f"Quantiles of {SAMPLES:,} log-normal latencies, largest deviation from exact, %:",
        "",
        *report.table(["quantile", "worst"], [list(one.values()) for one in found["sketch"]]),
    ]


if __name__ == "__main__":
    main()
