"""The three consumers that `bench.dispatch` compares, each a process of its own.

All read the same preloaded topic and do nothing with a record. `ours` is the real Faust worker with
this project's consumer, batches, stream, watermark and commits; only the step does nothing.
`stock` is Faust as it comes (`stream.noack().events()`), `bare` is a loop over aiokafka's
`getmany`. A subject prints one JSON line and ends.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import mode.loop

TOPIC = "bench.dispatch"
PARTITIONS = 4


class Meter:
    """Counts records and ends the process once all were read; CPU counts all its threads."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._seen = self._calls = self._skipped = 0
        self._began = self._cpu = 0.0

    def took(self, records: int) -> None:
        """`records` were handed out; the first call only starts the measurement."""
        self._seen += records
        self._calls += 1
        if self._calls == 1:
            self._skipped = records
            self._began, self._cpu = time.monotonic(), _cpu_s()
        if self._seen >= self._wanted:
            self._tell()

    def _tell(self) -> None:
        used, wall = _cpu_s() - self._cpu, time.monotonic() - self._began
        counted = self._seen - self._skipped
        found = {
            "records": counted,
            "us": used / counted * 1e6,
            "records_per_call": counted / max(1, self._calls - 1),
            "records_per_s": counted / wall,
        }
        print(json.dumps(found), flush=True)
        os._exit(0)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _quiet() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def ours(options: argparse.Namespace, meter: Meter) -> None:
    """Our worker; the step, the database around it and the journal are left out."""
    from app.delivery import consume
    from app.delivery.app import App
    from app.delivery.batch import BatchMessage
    from app.roles import Role
    from app.settings import load_settings
    from app.topics import TopicSpec

    settings = load_settings(
        role="bench",
        worker_id=options.group,
        incarnation="1",
        namespace=options.group,
        broker_bootstrap=options.bootstrap,
        data_dir=options.directory,
        table_store="memory",
        topic_partitions=PARTITIONS,
        max_batch_records=options.poll,
    )
    app = App(settings, Role("bench", (), "reads and does nothing", produces=False))

    class Surroundings:
        """A lifecycle without health port, database and watchdog."""

        async def before(self) -> None:
            """Nothing to wait for."""

        async def after_start(self) -> None:
            """As the real one, without the watchdog."""
            _quiet()

        async def after_stop(self) -> None:
            """Nothing to close."""

    class Journal:
        """A killer journal that finds nothing."""

        async def prepare(self, *_: Any) -> None:
            """No look into the database."""

    app.lifecycle = Surroundings()  # type: ignore[assignment]
    app.killer = Journal()  # type: ignore[assignment]
    consume(app, name="bench", topics=(TopicSpec(TOPIC, "order_id", (), None),), handler=object())
    step = app.runners[0].step

    async def run(message: BatchMessage) -> None:
        app.consumer.finish(message)
        meter.took(sum(map(len, message.value.values())))

    step.run = run  # type: ignore[method-assign]
    _faust(app)


def stock(options: argparse.Namespace, meter: Meter) -> None:
    """Faust as it comes, in its cheapest form, with the same poll size and commit interval."""
    import faust

    app = faust.App(
        options.group,
        broker=f"kafka://{options.bootstrap}",
        datadir=str(options.directory / options.group),
        store="memory://",
        topic_partitions=PARTITIONS,
        topic_allow_declare=False,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
        broker_max_poll_records=options.poll,
        broker_commit_interval=0.5,
        broker_commit_every=2000,
        web_enabled=False,
    )

    @app.agent(app.topic(TOPIC, key_type=bytes, value_type=bytes))  # type: ignore[untyped-decorator]
    async def nothing(stream: Any) -> None:
        _quiet()
        async for event in stream.noack().events():
            event.ack()
            meter.took(1)

    _faust(app)


def _faust(app: Any) -> None:
    from faust import Worker

    mode.loop.use("uvloop")
    # as app.worker: aiokafka's debug records alone are a third of the cost of a poll
    for name in ("aiokafka", "faust", "mode", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    worker = Worker(app, loglevel="warning", redirect_stdouts=False, quiet=True)
    worker.spinner = None
    raise worker.execute_from_commandline()


def bare(options: argparse.Namespace, meter: Meter) -> None:
    """A loop over getmany with the same fetch settings."""
    import uvloop
    from aiokafka import AIOKafkaConsumer

    logging.getLogger("aiokafka").setLevel(logging.WARNING)

    async def run() -> None:
        consumer = AIOKafkaConsumer(
            TOPIC,
            bootstrap_servers=options.bootstrap,
            group_id=options.group,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=500,
            fetch_min_bytes=65536,
            fetch_max_wait_ms=25,
            max_partition_fetch_bytes=2 * 1024 * 1024,
        )
        await consumer.start()
        _quiet()
        while True:
            found = await consumer.getmany(timeout_ms=1000, max_records=options.poll)
            meter.took(sum(map(len, found.values())))

    uvloop.run(run())


def main() -> None:
    """One subject; used by bench.dispatch only."""
    parser = argparse.ArgumentParser(prog="python -m bench.dispatch_subjects")
    parser.add_argument("subject", choices=("ours", "stock", "bare"))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--poll", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    sys.argv = sys.argv[:1]
    {"ours": ours, "stock": stock, "bare": bare}[options.subject](options, Meter(options.records))


if __name__ == "__main__":
    main()
