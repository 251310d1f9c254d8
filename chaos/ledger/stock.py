"""The control: the same two stages written with stock Faust agents.

Guarantees nothing, which is what it is for: it shows what the rebalance ledger finds when Faust's
own consumer, acknowledgements and table writes are used. Run as a process by the harness only.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import faust

MODES = ("noack", "plain", "raising")
RAISE_ONE_IN = 50


class Options(NamedTuple):
    """Command line of one stock worker; times in seconds."""

    bootstrap: str
    group: str
    worker: str
    mode: str
    partitions: int
    directory: Path
    session_timeout_s: float
    rebalance_timeout_s: float
    commit_interval_s: float


class EffectFile:
    """Append-only effects of one worker; a line is in the file before the event is acknowledged."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, stage: int, seq: int, partition: int, offset: int, had_state: bool) -> None:
        line = f"{stage} {seq} {partition} {offset} {int(had_state)} {time.time():.3f}\n"
        os.write(self._file, line.encode("ascii"))


def next_state(stage: int, old: bytes | None) -> bytes:
    """State of an event after `stage`: `<stage>:<writes>`; a repeated stage changes nothing."""
    reached, writes = (int(part) for part in old.split(b":")) if old else (0, 0)
    return old if old and reached >= stage else b"%d:%d" % (stage, writes + 1)


def build(options: Options) -> faust.App:
    """A Faust application with two stock agents and a table, fast settings, no overrides."""
    app = faust.App(
        options.group,
        broker=f"kafka://{options.bootstrap}",
        store="rocksdb://",
        datadir=str(options.directory / f"data-{options.worker}"),
        topic_partitions=options.partitions,
        topic_replication_factor=1,
        topic_allow_declare=False,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
        broker_client_id=options.worker,
        broker_session_timeout=options.session_timeout_s,
        broker_heartbeat_interval=1.0,
        broker_rebalance_timeout=options.rebalance_timeout_s,
        broker_request_timeout=30.0,
        broker_commit_interval=options.commit_interval_s,
        broker_max_poll_records=200,
        consumer_metadata_max_age_ms=10_000,
        producer_request_timeout=30.0,
        table_standby_replicas=0,
        web_enabled=False,
    )
    _agents(app, options)
    return app


def _agents(app: faust.App, options: Options) -> None:
    source = app.topic(f"{options.group}.in", key_type=bytes, value_type=bytes)
    middle = app.topic(f"{options.group}.out", key_type=bytes, value_type=bytes)
    table = app.Table("t", partitions=options.partitions, key_type=bytes, value_type=bytes)
    effects = EffectFile(options.directory / f"effects-{options.worker}")
    manual = options.mode == "noack"
    raises = _raises if options.mode == "raising" else _never

    def events(stream: Any) -> Any:
        return stream.noack().events() if manual else stream.events()

    async def work(stage: int, event: Any) -> None:
        message = event.message
        old = table.get(message.key)
        table[message.key] = next_state(stage, old)
        if stage == 1:
            sent = await middle.send(key=message.key, value=b"m", partition=message.partition)
            await sent
        seq = int(message.key)
        effects.append(stage, seq, message.partition, message.offset, old is not None)
        if manual:
            event.ack()

    @app.agent(source, name="stage-1")
    async def first(stream: Any) -> None:
        async for event in events(stream):
            raises(int(event.message.key))
            await work(1, event)

    @app.agent(middle, name="stage-2")
    async def second(stream: Any) -> None:
        async for event in events(stream):
            await work(2, event)


def _never(_: int) -> None:
    return None


def _raises(seq: int) -> None:
    if seq % RAISE_ONE_IN == 7:
        raise ValueError(f"event {seq} is one of the 2 % that fail")


def parse(arguments: list[str] | None = None) -> Options:
    """Options of one worker; exits with a message when they are wrong."""
    parser = argparse.ArgumentParser(prog="chaos.ledger.stock", description=__doc__)
    for name, kind in get_type_hints(Options).items():
        choices = MODES if name == "mode" else None
        parser.add_argument(
            "--" + name.replace("_", "-"), type=kind, required=True, choices=choices
        )
    return Options(**vars(parser.parse_args(arguments)))


def main() -> None:
    """Run one worker until it is told to stop."""
    app = build(parse())
    faust.Worker(app, loglevel="info").execute_from_commandline()


if __name__ == "__main__":
    main()
