"""What it costs to get a record to the code that handles it: ours, stock Faust, bare client.

`python -m bench.dispatch`: starts a broker, preloads one topic with `--records` records as they
travel here (nine CloudEvents headers, JSON body) and lets the three subjects read it, in turns,
`--repeat` times, with polls of at most 200 and 50 records. CPU of the consuming process with all
its threads; the broker is not counted, because it is the same for all three.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from app.messages import Cause, PaymentRequested, emit
from app.topics import PAYMENT_REQUESTED
from bench import machine, report
from bench.dispatch_subjects import PARTITIONS, TOPIC
from chaos.lab.broker import Broker

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = ("ours", "stock", "bare")
BOUND_US, BOUND_POLL = 10.0, 50


def preload(bootstrap: str, records: int) -> None:
    """Fill the topic, evenly over its partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)]).values():
        future.result(timeout=20)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    now = datetime.now(UTC)
    for number in range(records):
        order_id = str(UUID(int=number))
        cause = Cause(order_id, order_id)
        body = PaymentRequested(
            order_id=order_id, amount_minor=number, currency="EUR", not_after=now
        )
        out = emit(cause, PAYMENT_REQUESTED, body, event_id=order_id, now=now, source="bench")
        while True:
            try:
                producer.produce(
                    TOPIC, out.value, out.key, partition=number % PARTITIONS, headers=out.headers
                )
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise TimeoutError("the topic could not be filled")


def measure(bootstrap: str, options: argparse.Namespace, directory: Path) -> list[dict[str, Any]]:
    """Every subject and poll size, in turns."""
    found = []
    for turn in range(options.repeat):
        for poll in options.polls:
            for subject in SUBJECTS:
                command = [
                    *(sys.executable, "-W", "ignore", "-m", "bench.dispatch_subjects", subject),
                    *("--bootstrap", bootstrap, "--group", f"{subject}-{poll}-{turn}"),
                    *("--records", str(options.records), "--poll", str(poll)),
                    *("--directory", str(directory)),
                ]
                done = subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, timeout=options.timeout_s,
                    check=False,
                )  # fmt: skip
                if done.returncode or not done.stdout.strip():
                    raise RuntimeError(f"{subject} failed: {done.stderr[-2000:]}")
                figures = json.loads(done.stdout.strip().splitlines()[-1])
                found.append({"subject": subject, "poll": poll, "turn": turn, **figures})
                print(f"{subject} <= {poll}: {figures['us']:.1f} us", file=sys.stderr, flush=True)
    return found


def medians(found: list[dict[str, Any]], polls: list[int]) -> dict[str, dict[int, dict[str, Any]]]:
    """Median figures by subject and poll size."""
    result: dict[str, dict[int, dict[str, Any]]] = {}
    for subject in SUBJECTS:
        result[subject] = {}
        for poll in polls:
            mine = [one for one in found if (one["subject"], one["poll"]) == (subject, poll)]
            result[subject][poll] = {
                key: round(statistics.median(one[key] for one in mine), 2)
                for key in ("us", "records_per_call", "records_per_s")
            }
    return result


def page(facts: dict[str, Any], polls: list[int]) -> list[str]:
    """The table and whether the bound is kept."""
    found = facts["medians"]
    rows = []
    for subject in SUBJECTS:
        cells: list[Any] = []
        for poll in polls:
            one = found[subject][poll]
            ratio = found["stock"][poll]["us"] / one["us"]
            cells.append(f"{one['us']:.1f} ({one['records_per_call']:.0f} a call, 1/{ratio:.1f})")
        rows.append([subject, *cells])
    head = [f"CPU us/record, polls <= {poll} (1/n of stock)" for poll in polls]
    lines = report.table(["subject", *head], rows)
    if BOUND_POLL in polls:
        us = found["ours"][BOUND_POLL]["us"]
        kept = "kept" if us <= BOUND_US else "**not kept**"
        lines += ["", f"Bound: ours <= {BOUND_US:g} us at polls of {BOUND_POLL}: {us:.1f}, {kept}."]
    return lines


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.dispatch", description=__doc__)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--polls", type=int, nargs="+", default=[200, 50])
    parser.add_argument("--timeout-s", type=float, default=180.0, help="of one subject")
    parser.add_argument("--name", default="dispatch", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    return parser.parse_args()


def main() -> None:
    """Measure, write, print."""
    options = parse()
    facts = machine.checked(force=options.force)
    with tempfile.TemporaryDirectory(prefix="symphony-bench-") as name:
        directory = Path(name)
        broker = Broker(directory / "broker")
        try:
            broker.start()
            preload(broker.bootstrap, options.records)
            found = measure(broker.bootstrap, options, directory)
        finally:
            broker.kill()
    facts |= {"runs": found, "medians": medians(found, options.polls)}
    facts["calibration_after"] = machine.calibrate()
    body = page(facts, options.polls)
    report.write(options.name, "Dispatch per record", facts, body)
    print("\n".join(body))


if __name__ == "__main__":
    main()
