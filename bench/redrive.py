"""Dead letters: how fast they are sent back, and how fast a full index is paged.

Real Kafka and real PostgreSQL on free ports; the letters are requests to cancel, parked by a
consumer that does not exist, so nothing but the redrive is measured. One worker, one job, rate
limit out of the way.

    python -m bench.redrive --letters 100000 --redrive 20000
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp.test_utils import TestClient, TestServer

from app.clock import SystemClock
from app.db import dead_letter_jobs as jobs
from app.db import deadletters
from app.db.dead_letter_jobs import Work
from app.db.deadletters import DeadLetter, pack_headers
from app.db.engine import Database, statement
from app.db.migrate import upgrade
from app.delivery.outlet import ProducerOutlet
from app.errors import GatewayUnavailable
from app.messages import Cause, OrderCancel, emit
from app.messages.deadletter import dead_letter
from app.redrive.record import Stored
from app.redrive.worker import RedriveWorker
from app.settings import load_settings
from app.topic_admin import apply
from app.topics import ORDER_CANCEL
from bench import machine, report
from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
from web.application import build
from web.context import Context

CHUNK = 2000
GROUPS = 8
PARTITIONS = 4
PAGES = 200
RATE_PER_S = 100_000
_ANALYZE = statement("analyze ops.dead_letter")


def letter(number: int, at: datetime) -> DeadLetter:
    """A parked request to cancel, of one of a few causes."""
    order_id = str(uuid4())
    body = OrderCancel(order_id=order_id, reason="bench")
    output = emit(Cause(order_id, order_id), ORDER_CANCEL, body, event_id=str(uuid4()), now=at,
                  source="bench")  # fmt: skip
    partition, offset = number % PARTITIONS, number // PARTITIONS
    record = Stored(ORDER_CANCEL.name, partition, offset, 0, output.key, output.value,
                    output.headers)  # fmt: skip
    error = GatewayUnavailable("abcdefgh"[number % GROUPS] * 3 + f" status {number}")
    parked = dead_letter(
        record, topic="order.cancel.dlt", role="bench", error=error, attempt=4, now=at
    )
    return DeadLetter(
        topic=parked.topic,
        partition=partition,
        offset=offset,
        origin_topic=ORDER_CANCEL.name,
        origin_partition=partition,
        origin_offset=offset,
        consumer="bench",
        event_id=dict(output.headers)["ce_id"].decode(),
        error_class=error.code,
        error_message=str(error),
        headers=[(name, value.decode()) for name, value in parked.headers],
        key=output.key,
        value=output.value,
        first_failed_at=at,
        at=at + timedelta(milliseconds=number),
        raw_headers=pack_headers(parked.headers),
    )


async def index(db: Database, count: int) -> float:
    """Index `count` letters; return the letters per second of it."""
    began, at = time.perf_counter(), datetime.now(UTC) - timedelta(days=1)
    for first in range(0, count, CHUNK):
        letters = [letter(number, at) for number in range(first, min(first + CHUNK, count))]
        async with db.transaction() as tx:
            await deadletters.record(tx, letters)
        print(f"  indexed {first + len(letters):,} of {count:,}", flush=True)
    took = time.perf_counter() - began
    await db.execute(_ANALYZE)
    return count / took


async def timed(client: Any, path: str, times: int) -> dict[str, float | None]:
    """Milliseconds of so many requests, one after the other."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        answer = await client.get(path)
        await answer.read()
        seconds.append(time.perf_counter() - began)
        assert answer.status == 200, path
    return report.percentiles(seconds, 1000)


async def page_through(client: Any, pages: int) -> dict[str, float | None]:
    """Milliseconds of following pages of 100 letters with headers and payload."""
    seconds, after = [], ""
    for _ in range(pages):
        began = time.perf_counter()
        answer = await client.get(f"/api/dlq/order.cancel.dlt/peek?n=100&status=open{after}")
        page = await answer.json()
        seconds.append(time.perf_counter() - began)
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    return report.percentiles(seconds, 1000)


async def redrive(settings: Any, db: Database, count: int) -> dict[str, float]:
    """Send `count` letters back; letters per second from the request to the last settled one."""
    outlet = ProducerOutlet(settings, "bench-redrive")
    worker = RedriveWorker(settings, db, outlet, SystemClock())
    task = asyncio.create_task(worker.run())
    work = Work(topic="order.cancel.dlt", to_offset=count // PARTITIONS - 1)
    job_id, began, cpu = str(uuid4()), time.perf_counter(), time.process_time()
    async with db.transaction() as tx:
        jobs.create(tx, job_id, "redrive", work, jobs.Request("bench"), total=count,
                    rate_per_s=RATE_PER_S, now=datetime.now(UTC))  # fmt: skip
    while True:
        job = await jobs.get(db, job_id)
        assert job is not None
        if job.status in jobs.ENDED:
            break
        print(f"  sent {job.done:,} of {count:,}", flush=True)
        await asyncio.sleep(0.5)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    worker.stop()
    await task
    assert (job.status, job.done) == ("DONE", count), job
    return {"letters": count, "seconds": round(took, 2), "per_s": round(count / took),
            "worker_us": round(cpu / count * 1e6)}  # fmt: skip


async def measure(options: argparse.Namespace, bootstrap: str, dsn: str) -> dict[str, Any]:
    """Index, page, send back."""
    settings = load_settings(
        role="dlq",
        broker_bootstrap=bootstrap,
        postgres_dsn=dsn,
        db_pool_max=4,
        topic_partitions=PARTITIONS,
        dlq_poll_ms=50,
    )
    await apply(settings)
    db = await Database.open(settings, application_name="bench")
    try:
        found: dict[str, Any] = {"indexed_per_s": round(await index(db, options.letters))}
        web = load_settings(role="web", postgres_dsn=dsn)
        async with TestClient(TestServer(build(Context(web, db)))) as client:
            found["peek_ms"] = await page_through(client, options.pages)
            group = (await (await client.get("/api/dlq/groups")).json())["groups"][0]
            of_group = f"/api/dlq/order.cancel.dlt/peek?n=100&fingerprint={group['fingerprint']}"
            found["peek_group_ms"] = await timed(client, of_group, 50)
            found["topics_ms"] = await timed(client, "/api/dlq/topics", 50)
            found["groups_ms"] = await timed(client, "/api/dlq/groups", 50)
        found["redrive"] = await redrive(settings, db, options.redrive)
    finally:
        await db.close()
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--letters", type=int, default=100_000, help="letters in the index")
    parser.add_argument("--redrive", type=int, default=20_000, help="letters sent back")
    parser.add_argument("--pages", type=int, default=PAGES, help="pages of 100 letters read")
    parser.add_argument("--name", default="redrive", help="of the result's files")
    parser.add_argument("--force", action="store_true", help="measure a busy machine all the same")
    options = parser.parse_args()
    if not 0 < options.redrive <= options.letters:
        parser.error("--redrive must be from 1 to --letters")
    options.redrive -= options.redrive % PARTITIONS
    facts = machine.checked(force=options.force)
    with tempfile.TemporaryDirectory(prefix="bench-redrive-") as place:
        directory = Path(place)
        directory.chmod(0o755)
        broker, postgres = Broker(directory / "broker"), Postgres(directory / "postgres")
        try:
            broker.start()
            postgres.start()
            dsn = postgres.dsn_of("postgres")
            upgrade(dsn)
            found = asyncio.run(measure(options, broker.bootstrap, dsn))
        finally:
            broker.kill()
            postgres.kill()
    sent = found["redrive"]
    rows = [
        [name, *(found[key][at] for at in ("p50", "p95", "p99", "max"))]
        for name, key in (
            ("a page of 100 open letters", "peek_ms"),
            ("a page of 100 of one group", "peek_group_ms"),
            ("counts of all topics", "topics_ms"),
            ("groups of all topics", "groups_ms"),
        )
    ]
    body = [
        f"{options.letters:,} letters indexed at {found['indexed_per_s']:,}/s, with making them.",
        "",
        f"**{sent['letters']:,} letters sent back in {sent['seconds']} s: {sent['per_s']:,}/s**",
        f"(bound: 1,000/s), {sent['worker_us']} us of the worker's CPU each.",
        "",
        f"Through the API over {options.letters:,} letters, milliseconds (bound: p95 <= 100):",
        "",
        *report.table(["request", "p50", "p95", "p99", "max"], rows),
    ]
    path = report.write(options.name, "Dead letters", {**facts, **found}, body)
    print(path.read_text())


if __name__ == "__main__":
    main()
