"""What failpoints cost while the laboratory has armed nothing: CPU time of one pass.

`python -m bench.failpoints`: passes each kind of call in a loop of an event loop's coroutine, less
the same loop without it; the median of `--repeat` runs. Bound of a failpoint: 0.1 us; measured on
2026-11-21: 0.092 us without and 0.093 us with events, while others used the machine
(bench/results). What the taps cost is in `bench.rules`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from app.failpoints import failpoint, installed
from bench import machine, report

BOUND_US = 0.1
EVENTS = (object(),)


async def _nothing(passes: int) -> None:
    for _ in range(passes):
        pass


async def _plain(passes: int) -> None:
    for _ in range(passes):
        await failpoint("delivery.before_step")


async def _with_events(passes: int) -> None:
    for _ in range(passes):
        await failpoint("delivery.after_commit", EVENTS)


KINDS: dict[str, Callable[[int], Awaitable[None]]] = {
    "without events": _plain,
    "with events": _with_events,
}


async def cpu_us(work: Callable[[int], Awaitable[None]], passes: int) -> float:
    """CPU microseconds of one pass, the loop around it included."""
    began = time.process_time()
    await work(passes)
    return (time.process_time() - began) / passes * 1e6


async def measure(passes: int, repeat: int) -> dict[str, list[float]]:
    """CPU microseconds of one pass by kind, one value a run."""
    assert not installed()
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(repeat):
        empty_us = await cpu_us(_nothing, passes)
        for kind, work in KINDS.items():
            found[kind].append(round(await cpu_us(work, passes) - empty_us, 4))
    return found


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.failpoints", description=__doc__)
    parser.add_argument("--passes", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--name", default="failpoints", help="prefix of the result files")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    options = parser.parse_args()
    facts = machine.checked(force=options.force)
    found = asyncio.run(measure(options.passes, options.repeat))
    facts |= {"us": found, "calibration_after": machine.calibrate()}
    rows = []
    for kind, values in found.items():
        median = statistics.median(values)
        kept = "kept" if median <= BOUND_US else "**not kept**"
        rows.append(
            [
                kind,
                f"{median:.3f}",
                f"{min(values):.3f} to {max(values):.3f}",
                f"{BOUND_US:g} us: {kept}",
            ]
        )
    body = report.table(["a pass", "CPU us, median", "runs", "bound"], rows)
    report.write(options.name, "Failpoints that are off", facts, body)
    print("\n".join(body))


if __name__ == "__main__":
    main()
