"""What an order costs and how long it takes, from the request to COMPLETED, on all real parts.

`python -m bench.orders`: starts a lab of its own (or uses `--lab-dir` of a running one), warms it
up, then offers happy orders at each of `--rates` on a fixed schedule for `--seconds` and waits
until all have ended; then measures how fast a backlog drains. Writes bench/results/orders-DATE.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psycopg2
from confluent_kafka import Consumer, TopicPartition

from app.messages import OrderStatusChanged
from app.settings import load_settings
from bench import accounting, machine, report
from bench.accounting import Processes
from bench.figures import memory, page, relay_ms, summary
from bench.sender import Sent
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab

ROOT = Path(__file__).resolve().parent.parent
STATUS_TOPIC = "order.status_changed"
RESTOCK_UNITS = 2_000_000
LOOK_S = 0.25
OTHER_DURING_MAX = 0.15


class Window(NamedTuple):
    """One load with everything around it; times are Unix seconds."""

    sent: Sent
    accepted: dict[str, float]
    """Intended send time of every accepted order by id."""
    completed: dict[str, float]
    """When the COMPLETED event of an order was written, by id."""
    facts: dict[str, Any]


class Bench:
    """A running lab under measurement."""

    def __init__(self, lab: Lab, options: argparse.Namespace, directory: Path) -> None:
        self._lab, self._options, self._directory = lab, options, directory
        status = lab.status()
        self.url: str = status["web"]["url"]
        self._bootstrap: str = status["broker"]["bootstrap"]
        self._database = psycopg2.connect(status["postgres"]["dsn"])
        self._database.autocommit = True
        self._events = StatusLog(self._bootstrap)
        self._seed = 100

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()
        self._events.close()

    def restock(self) -> None:
        """Fill up what is in stock, so that every happy order finds its goods."""
        self._sql(
            "update inventory.stock set available = available + %s, restocked = restocked + %s"
            " where available >= 1000",
            RESTOCK_UNITS,
            RESTOCK_UNITS,
        )

    def idle(self, seconds: float) -> dict[str, Any]:
        """CPU of everything while nothing happens."""
        used, wall_s = self._cpu_over(lambda: time.sleep(seconds))
        return {
            "cores": round(sum(used.values()) / wall_s, 3),
            "cores_by_process": {name: round(s / wall_s, 4) for name, s in used.items()},
        }

    def _cpu_over(self, work: Any) -> tuple[dict[str, float], float]:
        processes = Processes(self._lab.status())
        before, began = processes.cpu(), time.monotonic()
        work()
        after, wall_s = processes.cpu(), time.monotonic() - began
        return {name: after[name] - before[name] for name in after}, wall_s

    def load(self, rate: float, seconds: float) -> Window:
        """Offer orders at `rate`, wait for their ends, account for everything."""
        processes = Processes(self._lab.status())
        with self._sender(rate, int(rate * seconds)) as send:
            scraped, since = processes.metrics(), self._now()
            before, busy, began = processes.cpu(), machine.busy_s(), time.monotonic()
            sent = send()
        accepted = {a.order_id: a.intended_s for a in sent.answers if a.order_id}
        unfinished = self._wait_finished(since, len(accepted))
        after, wall_s = processes.cpu(), time.monotonic() - began
        busy = machine.busy_s() - busy
        grew = accounting.grown(scraped, processes.metrics())
        completed = self._events.completed(accepted)
        used = {name: after[name] - before[name] for name in after}
        other = machine.other_load(busy, sum(used.values()) + sent.cpu_s, wall_s)
        facts = summary(rate, sent, accepted, completed, used)
        facts |= {
            "unfinished": unfinished,
            "wall_s": round(wall_s, 1),
            "cores_used": round(sum(used.values()) / wall_s, 2),
            "other_load": round(other, 3),
            "steps": accounting.records_per_step(grew),
            "phase_ms": accounting.phase_ms(grew),
            "relay_ms": relay_ms(grew),
            "memory_mb": memory(processes.memory()),
        }
        return Window(sent, accepted, completed, facts)

    def drain(self, orders: int, rate: float) -> dict[str, Any]:
        """Accept `orders` while the orchestrator is away, start it, time the drain."""
        for row in self._workers("orchestrator"):
            self._lab.stop(row)
        since = self._now()
        with self._sender(rate, orders) as send:
            sent = send()
        accepted = {a.order_id: a.intended_s for a in sent.answers if a.order_id}
        self._wait(lambda: self._sql("select count(*) from ops.outbox")[0][0] == 0, "the outbox")
        names = self._workers("orchestrator")
        started_s, began = time.time(), time.monotonic()
        for name in names:
            self._lab.start(name, wait=True)
        ready_s = time.time()
        processes = Processes(self._lab.status())
        before, scraped = processes.cpu(), processes.metrics()
        unfinished = self._wait_finished(since, len(accepted))
        after = processes.cpu()
        grew = accounting.grown(scraped, processes.metrics())
        wall_s = time.monotonic() - began
        completed = self._events.completed(accepted)
        first_s = self._sql("select extract(epoch from min(created_at))::float8 from orders.saga"
                            " where created_at > %s", since)[0][0] or ready_s  # fmt: skip
        ended_s = max(completed.values(), default=time.time())
        used = sum(after[name] - before[name] for name in after)
        return {
            "orders": len(accepted),
            "completed": len(completed),
            "unfinished": unfinished,
            "start_to_first_saga_s": round(first_s - started_s, 2),
            "drain_s": round(ended_s - first_s, 2),
            "orders_per_s": round(len(completed) / max(0.001, ended_s - first_s)),
            "start_to_end_s": round(ended_s - started_s, 2),
            "wall_s": round(wall_s, 1),
            "cpu_us_per_order": round(used / max(1, len(completed)) * 1e6),
            "cpu_us": {
                name: round((after[name] - before[name]) / max(1, len(completed)) * 1e6)
                for name in after
            },
            "steps": accounting.records_per_step(grew),
            "phase_ms": accounting.phase_ms(grew),
        }

    def _workers(self, role: str) -> list[str]:
        rows = self._lab.status()["processes"]
        return [row["name"] for row in rows if row["role"] == role]

    @contextlib.contextmanager
    def _sender(self, rate: float, orders: int) -> Iterator[Callable[[], Sent]]:
        """A load generator that is ready; call what this yields to send and get the answers."""
        self._seed += 1
        out = self._directory / f"sent-{self._seed}"
        command = [
            *(sys.executable, "-m", "bench.sender", "--url", self.url, "--out", str(out)),
            *("--orders", str(orders), "--rate", str(rate), "--seed", str(self._seed)),
            *(["--no-keys"] if self._options.no_keys else []),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError("the load generator did not get ready")

            def send() -> Sent:
                process.communicate("\n", timeout=orders / rate + 120)
                if process.returncode:
                    raise RuntimeError(f"the load generator ended with {process.returncode}")
                return msgspec.msgpack.decode(out.read_bytes(), type=Sent)

            yield send

    def _wait_finished(self, since: Any, orders: int) -> int:
        """Wait until `orders` orders made after `since` are final; how many are not in time."""
        left = orders
        deadline = time.monotonic() + self._options.wait_s
        while left > 0 and time.monotonic() < deadline:
            left = (
                orders
                - self._sql(
                    "select count(*) from orders.orders o join orders.saga s using (order_id)"
                    " where o.created_at > %s"
                    " and s.state in ('COMPLETED', 'CANCELLED', 'REJECTED')",
                    since,
                )[0][0]
            )
            if left > 0:
                time.sleep(LOOK_S)
        return max(0, left)

    def _wait(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + self._options.wait_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: nothing after {self._options.wait_s:g} s")
            time.sleep(LOOK_S)

    def _now(self) -> Any:
        return self._sql("select clock_timestamp()")[0][0]

    def _sql(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._database.cursor() as cursor:
            cursor.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []


class StatusLog:
    """Reads order.status_changed from where it ended at the start, after each load."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bench-orders",
                "enable.auto.commit": False,
            }
        )
        self._decode = msgspec.json.Decoder(OrderStatusChanged).decode
        known = self._consumer.list_topics(STATUS_TOPIC, timeout=20).topics[STATUS_TOPIC]
        self._next = {p: self._end(p) for p in known.partitions}

    def _end(self, partition: int) -> int:
        tp = TopicPartition(STATUS_TOPIC, partition)
        return int(self._consumer.get_watermark_offsets(tp, timeout=20)[1])

    def completed(self, wanted: Mapping[str, float]) -> dict[str, float]:
        """When the first COMPLETED record of each wanted order was made, Unix seconds."""
        found: dict[str, float] = {}
        ends = {p: self._end(p) for p in self._next}
        self._consumer.assign([TopicPartition(STATUS_TOPIC, p, o) for p, o in self._next.items()])
        deadline = time.monotonic() + 120
        while any(self._next[p] < end for p, end in ends.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{STATUS_TOPIC} cannot be read to its end")
            for message in self._consumer.consume(5000, 0.2):
                if message.error() is not None:
                    continue
                self._next[message.partition()] = message.offset() + 1
                body = self._decode(message.value())
                if body.status == "COMPLETED" and body.order_id in wanted:
                    found.setdefault(body.order_id, message.timestamp()[1] / 1e3)
        return found

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


@contextlib.contextmanager
def running_lab(options: argparse.Namespace, directory: Path) -> Iterator[tuple[Lab, float]]:
    """The lab of `--lab-dir`, or a fresh one that ends with the bench; and its start-up time."""
    if options.lab_dir is not None:
        yield Lab(options.lab_dir), 0.0
        return
    settings = load_settings(lab_dir=directory / "lab")
    pairs = dict(pair.split("=", 1) for pair in options.workers)
    environment = dict(pair.split("=", 1) for pair in options.env)
    plan = make_plan(settings, workers=pairs, environment=environment)
    plan = msgspec.structs.replace(plan, ready_timeout_s=options.ready_s, cwd=ROOT)
    began = time.monotonic()
    lab = Lab.up(plan, detach=False, report=say)
    ready_s = time.monotonic() - began
    try:
        yield lab, ready_s
    finally:
        lab.down()
        lab.files.purge()


def say(line: str) -> None:
    """One line of progress."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.orders", description=__doc__)
    parser.add_argument("--rates", default="100,300,500,1000", help="orders/s, comma separated")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each rate")
    parser.add_argument("--warm-up", type=float, default=8.0, help="seconds at 200/s")
    parser.add_argument("--drain", type=int, default=6000, help="orders of the backlog; 0 = none")
    parser.add_argument("--drain-rate", type=float, default=600.0, help="accepting it, orders/s")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of idle CPU; 0 = none")
    parser.add_argument("--wait-s", type=float, default=180.0, help="for the end of each load")
    parser.add_argument("--ready-s", type=float, default=90.0, help="for the lab to be ready")
    parser.add_argument("--lab-dir", type=Path, help="use this running lab")
    parser.add_argument("--workers", action="append", default=[], metavar="ROLE=COUNT")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE",
                        help="environment of all workers: SYMPHONY_...=...")  # fmt: skip
    parser.add_argument("--no-keys", action="store_true", help="send no Idempotency-Key")
    parser.add_argument("--name", default="orders", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; the result files grow after every part."""
    facts = {**machine.checked(force=options.force), "rates": []}

    def keep() -> None:
        report.write(options.name, "Orders end to end", facts, page(facts))

    # PostgreSQL gives up root's rights and must still reach its files
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with running_lab(options, directory) as (lab, ready_s):
            facts["lab_ready_s"] = round(ready_s, 1)
            bench = Bench(lab, options, directory)
            try:
                measure(bench, options, facts, keep)
            finally:
                bench.close()
    facts["calibration_after"] = machine.calibrate()
    keep()
    return facts


def measure(bench: Bench, options: argparse.Namespace, facts: dict[str, Any], keep: Any) -> None:
    """Idle, warm-up, every rate, the backlog."""
    bench.restock()
    if options.warm_up:
        say(f"warming up for {options.warm_up:g} s")
        bench.load(200.0, options.warm_up)
    if options.idle:
        facts["idle"] = bench.idle(options.idle)
    for rate in [float(part) for part in options.rates.split(",") if part]:
        say(f"offering {rate:g} orders/s for {options.seconds:g} s")
        bench.restock()
        found = bench.load(rate, options.seconds).facts
        facts["rates"].append(found)
        if found["other_load"] > OTHER_DURING_MAX:
            facts["warnings"].append(
                f"at {rate:g}/s others used {found['other_load']:.0%} of the machine"
            )
        say(
            f"  accepted {found['accepted_per_s']}/s, completed {found['completed_per_s']}/s,"
            f" {found['cpu_us_per_order']} us CPU per order, p99 {found['completed_ms']['p99']} ms"
        )
        keep()
    if options.drain:
        say(f"backlog of {options.drain} orders")
        bench.restock()
        facts["drain"] = bench.drain(options.drain, options.drain_rate)
        say(f"  drained at {facts['drain']['orders_per_s']} orders/s")
        keep()


def main() -> None:
    """Measure and print the page."""
    print("\n".join(page(run(parse()))))


if __name__ == "__main__":
    main()
