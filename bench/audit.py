"""How long the auditor takes, and in how much memory, for a given number of orders.

`python -m bench.audit --orders 1000000`: starts a lab, sends a few orders of every class, stops the
workers, copies what these orders left in PostgreSQL, in the topics and in both ledgers as often as
needed (ids, keys and correlation ids are renumbered), and audits it all: `chaos.auditor` as users
run it, watched from outside. Then it plants one lost event and one double charge and audits again,
which must find exactly these. Writes bench/results/audit-DATE.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg2
from confluent_kafka import Consumer, Producer, TopicPartition

from app.settings import load_settings
from bench import machine, report
from chaos.audit import run_audit
from chaos.auditor.identity import of_order
from chaos.auditor.platform import CONSUMERS, ROLE_OF_RAW
from chaos.auditor.records import Topics
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.workload.target import Target, target_of

TABLES = (
    ("orders.orders", "order_id"),
    ("orders.order_item", "order_id"),
    ("orders.saga", "order_id"),
    ("orders.order_history", "id"),
    ("orders.idempotency", "key"),
    ("payments.payment_attempt", "order_id"),
    ("inventory.reservation", "order_id"),
    ("inventory.reservation_line", "order_id"),
    ("shipping.shipment", "order_id"),
    ("ops.inbox", "at"),
)
SEEDS = 20
QUEUE_MESSAGES = 200_000
COPIES_A_TRANSACTION = 500
POLL_S = 0.2
_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Names:
    """The names in the template: ids and runs of the load, and what each becomes in a copy."""

    def __init__(self, orders: Iterable[str], runs: Iterable[str]) -> None:
        self._index: dict[bytes, int] = {}
        self._names: list[bytes] = []
        self._derived = {
            _dashed(of_order(order, event)): (order.encode(), event)
            for order in orders
            for event in ("order.created", "order.cancel")
        }
        runs_ = [run.encode() for run in runs]
        self._pattern = re.compile(b"|".join([_ID.pattern, *map(re.escape, runs_)]))

    def pieces(self, raw: bytes) -> tuple[list[bytes], list[int]]:
        """Text between names, and which names stand between them."""
        between, names, end = [], [], 0
        for found in self._pattern.finditer(raw):
            between.append(raw[end : found.start()])
            names.append(self._number(found[0]))
            end = found.end()
        return [*between, raw[end:]], names

    def _number(self, name: bytes) -> int:
        if name not in self._index:
            self._index[name] = len(self._names)
            self._names.append(name)
        return self._index[name]

    def in_copy(self, number: int) -> list[bytes]:
        """What every name is called in copy `number`: as long as before."""
        prefix = b"%08x" % number
        named = []
        for name in self._names:
            order, event = self._derived.get(name, (b"", ""))
            if order:
                named.append(_dashed(of_order((prefix + order[8:]).decode(), event)))
            else:
                named.append(prefix + name[8:])
        return named


class Template:
    """A text with names in it; `hexed` for one whose bytes are written as hexadecimal digits."""

    def __init__(self, names: Names, raw: bytes, *, hexed: bool = False) -> None:
        between, self._slots = names.pieces(raw)
        self._between = [one.hex().encode() for one in between] if hexed else between
        self._hexed = hexed

    def of(self, named: Sequence[bytes]) -> bytes:
        """The text of one copy."""
        parts = [self._between[0]]
        for slot, text in zip(self._slots, self._between[1:], strict=True):
            parts += (named[slot].hex().encode() if self._hexed else named[slot], text)
        return b"".join(parts)


class Books(NamedTuple):
    """The templates of everything."""

    names: Names
    rows: dict[str, tuple[str, list[list[Template]]]]
    records: list[tuple[str, int, Template, Template, list[tuple[str, Template]]]]
    load: Template
    gateway: Template


def _dashed(digits: str) -> bytes:
    return "-".join(digits[a:b] for a, b in
                    ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))).encode()  # fmt: skip


def template(target: Target) -> Books:
    """Read what the few orders left everywhere."""
    load = b"".join(path.read_bytes() for path in target.ledgers())
    lines = [json.loads(line) for line in load.splitlines()]
    names = Names(
        {line["order_id"] for line in lines if line["order_id"]},
        {line["op"].partition("-")[0] for line in lines},
    )
    topics = Topics(target.bootstrap)
    records = [
        (m.topic(), m.partition(), Template(names, m.key()), Template(names, m.value()),
         [(name, Template(names, value)) for name, value in m.headers()])
        for m in topics.read(topics.spans(topics.names()))
        if b"barrier" not in dict(m.headers()).get("ce_type", b"")
    ]  # fmt: skip
    with closing(psycopg2.connect(target.dsn)) as connection, connection.cursor() as cursor:
        rows = {table: _rows(cursor, names, table, order) for table, order in TABLES}
    gateway = target.gateway_ledger.read_bytes()
    return Books(names, rows, records, Template(names, load), Template(names, gateway))


def _rows(cursor: Any, names: Names, table: str, order: str) -> tuple[str, list[list[Template]]]:
    schema, name = table.split(".")
    cursor.execute(
        "select string_agg('\"' || column_name || '\"', ',' order by ordinal_position)"
        " from information_schema.columns where table_schema = %s and table_name = %s"
        " and is_identity = 'NO'",
        (schema, name),
    )
    columns = cursor.fetchone()[0]
    only = " where topic <> 'tick' and outputs is not null" if table == "ops.inbox" else ""
    text = io.BytesIO()
    cursor.copy_expert(
        f"copy (select {columns} from {table}{only} order by {order}) to stdout", text
    )
    return columns, [
        [_field(names, field) for field in line.split(b"\t")]
        for line in text.getvalue().splitlines()
    ]


def _field(names: Names, field: bytes) -> Template:
    if field.startswith(b"\\\\x"):
        between = Template(names, bytes.fromhex(field[3:].decode()), hexed=True)
        between._between[0] = b"\\\\x" + between._between[0]
        return between
    return Template(names, field)


def multiply(target: Target, books: Books, copies: int, say: Callable[[str], None]) -> None:
    """Write `copies` copies into PostgreSQL, topics and ledgers, by a process on every core."""
    begins = range(1, copies + 1, COPIES_A_TRANSACTION)
    with ProcessPoolExecutor(os.cpu_count(), get_context("fork"), _take, (target, books)) as pool:
        parts = [range(one, min(copies + 1, one + COPIES_A_TRANSACTION)) for one in begins]
        written = 0
        for done in as_completed([pool.submit(_write, part) for part in parts]):
            written += done.result()
            say(f"{written * SEEDS:,} orders written")
    with closing(psycopg2.connect(target.dsn)) as connection, connection, connection.cursor() as it:
        it.execute(
            "update inventory.stock set restocked = restocked + consumed * (%(n)s - 1),"
            " consumed = consumed * %(n)s",
            {"n": copies + 1},
        )


_TAKEN: list[tuple[Target, Books]] = []


def _take(target: Target, books: Books) -> None:
    """Keep what every part needs, in a process that writes some."""
    _TAKEN.append((target, books))


def _write(numbers: range) -> int:
    """Write the copies of these numbers; how many."""
    target, books = _TAKEN[0]
    named = [books.names.in_copy(number) for number in numbers]
    load = target.ledgers()[0].with_name(f"copies-{os.getpid()}.jsonl")
    for path, text in ((load, books.load), (target.gateway_ledger, books.gateway)):
        with path.open("ab", buffering=0) as file:
            file.write(b"".join([text.of(one) for one in named]))
    _into_postgres(target.dsn, books, named)
    _into_topics(target.bootstrap, books, named)
    return len(numbers)


def _into_postgres(dsn: str, books: Books, named: Sequence[Sequence[bytes]]) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        for table, (columns, rows) in books.rows.items():
            text = b"\n".join(
                b"\t".join([field.of(one) for field in row]) for one in named for row in rows
            )
            cursor.copy_expert(f"copy {table} ({columns}) from stdin", io.BytesIO(text + b"\n"))


def _into_topics(bootstrap: str, books: Books, named: Sequence[Sequence[bytes]]) -> None:
    producer = Producer(
        {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": QUEUE_MESSAGES,
         "linger.ms": 50, "batch.size": 900_000, "log_level": 0, "enable.idempotence": True}
    )  # fmt: skip
    for one in named:
        for topic, partition, key, value, headers in books.records:
            made = [(name, text.of(one)) for name, text in headers]
            while True:
                try:
                    producer.produce(topic, value.of(one), key.of(one), partition, headers=made)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


class Watched(NamedTuple):
    """One audit seen from outside; memory is the process' largest resident set."""

    seconds: float
    cpu_s: float
    rss_mb: float
    exit_code: int
    document: dict[str, Any]


def watch(target: Target, memory_mb: int) -> Watched:
    """Run the auditor and measure it until its end."""
    command = [sys.executable, "-m", "chaos.auditor", "--dsn", target.dsn, "--bootstrap",
               target.bootstrap, "--gateway-ledger", str(target.gateway_ledger), "--json",
               "--deadline", "60", "--no-barriers", "--memory-mb", str(memory_mb)]  # fmt: skip
    for path in target.ledgers():
        command += ["--load-ledger", str(path)]
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        with subprocess.Popen(command, stdout=out) as process:
            seen, rss, cpu = psutil.Process(process.pid), 0, 0.0
            while process.poll() is None:
                try:
                    rss = max(rss, seen.memory_info().rss)
                    cpu = sum(seen.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    break
                time.sleep(POLL_S)
            code = process.wait()
        took = time.monotonic() - began
        out.seek(0)
        return Watched(took, cpu, rss / 1e6, code, json.loads(out.read()))


def plant(target: Target) -> None:
    """One lost event and one double charge among all orders."""
    with closing(psycopg2.connect(target.dsn)) as connection, connection, connection.cursor() as it:
        it.execute("select outputs from ops.inbox where consumer = 'payment'"
                   " and length(outputs) > 100 limit 1")  # fmt: skip
        packed = bytes(it.fetchone()[0])
        found = _ID.findall(packed)
        for name in set(found):
            packed = packed.replace(name, b"ffffffff" + name[8:])
        it.execute("update ops.inbox set outputs = %s where consumer = 'payment' and event_id ="
                   " (select event_id from ops.inbox where consumer = 'payment'"
                   " and length(outputs) > 100 order by event_id desc limit 1)",
                   (packed,))  # fmt: skip
    lines = target.gateway_ledger.read_bytes().splitlines()
    charge = next(json.loads(line) for line in reversed(lines)
                  if json.loads(line)["op"] == "charge"
                  and json.loads(line)["outcome"] == "ok")  # fmt: skip
    charge["idempotency_key"] = "planted"
    with target.gateway_ledger.open("ab") as file:
        file.write(json.dumps(charge).encode() + b"\n")


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Make the books, audit them, plant, audit again."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    lab = Lab.up(make_plan(load_settings(lab_dir=directory)), detach=False, report=say)
    try:
        target = target_of(lab)
        subprocess.run(
            [sys.executable, "-m", "app.cli", "load", "--orders", str(SEEDS), "--rate", "20",
             "--retries", "0", "--repeat-share", "0", "--conflict-share", "0",
             "--lab-dir", str(directory)],
            check=True, capture_output=True,
        )  # fmt: skip
        assert run_audit(target, target.ledgers()).exit_code == 0
        _stop_workers(lab)
        books = template(target)
        began = time.monotonic()
        multiply(target, books, max(1, options.orders // SEEDS), say)
        _commit_everything(target)
        say(f"written in {time.monotonic() - began:.0f} s")
        whole = watch(target, options.memory_mb)
        say(f"{whole.document['result']} after {whole.seconds:.0f} s, {whole.cpu_s:.0f} s of CPU,"
            f" {whole.rss_mb:.0f} MB, {whole.document['records']:,} records")  # fmt: skip
        planted = {} if options.clean_only else _planted(target, options.memory_mb)
    finally:
        lab.down()
    return {
        "orders": whole.document["orders"],
        "records": whole.document["records"],
        "gateway_attempts": whole.document["gateway_attempts"],
        "result": whole.document["result"],
        "seconds": round(whole.seconds, 1),
        "cpu_s": round(whole.cpu_s, 1),
        "rss_mb": round(whole.rss_mb),
        "memory_mb": options.memory_mb,
        **planted,
    }


def _planted(target: Target, memory_mb: int) -> dict[str, Any]:
    """Plant two defects and say what the second audit finds."""
    plant(target)
    broken = watch(target, memory_mb)
    found = {one["id"]: one["violations"] for one in broken.document["invariants"]
             if one["violations"]}  # fmt: skip
    return {"planted_found": found, "planted_seconds": round(broken.seconds, 1)}


def _commit_everything(target: Target) -> None:
    """Say for every group that it has finished everything, as it had before the copies."""
    topics = Topics(target.bootstrap)
    for role in (*CONSUMERS, ROLE_OF_RAW):
        group = f"symphony-{role}"
        spans = topics.spans({topic for topic, _ in topics.committed(group)})
        ends = [TopicPartition(topic, part, span.end) for (topic, part), span in spans.items()]
        if not ends:
            continue
        consumer = Consumer({"bootstrap.servers": target.bootstrap, "group.id": group})
        consumer.commit(offsets=ends, asynchronous=False)
        consumer.close()


def _stop_workers(lab: Lab) -> None:
    for row in lab.status()["processes"]:
        if row["role"] not in ("broker", "postgres", "gateway"):
            lab.stop(row["name"])


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--name", default="audit", help="prefix of the result files")
    parser.add_argument("--clean-only", action="store_true", help="one audit, nothing planted")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        found = measure(options, Path(directory))
    body = report.table(list(found), [list(found.values())])
    report.write(options.name, "The audit", {**facts, **found}, body)
    print("\n".join(body))


if __name__ == "__main__":
    main()
