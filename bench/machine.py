"""What a measurement is worth: the machine's speed at that moment, and who else used it.

Every result carries `calibration_us`, the CPU time of a fixed piece of JSON work: divide a CPU
figure by it to compare two machines or two days. A result that was measured while others used the
machine says so in `warnings`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

OTHER_LOAD_MAX = 0.10
"""Share of all cores that others may use without a warning."""
WALL_PER_CPU_MAX = 1.3
"""Wall time per CPU time of the calibration above which the machine is oversubscribed."""
_ROUNDS, _LOOPS = 7, 300


class _Item(msgspec.Struct):
    product_id: str
    quantity: int
    unit_price_minor: int


class _Order(msgspec.Struct):
    order_id: str
    customer_id: str
    items: list[_Item]
    total_minor: int
    currency: str


_SAMPLE = _Order(
    "0b8ac5a3-0f1c-5b0a-9a55-6c8f2f3f7d11",
    "customer-1",
    [_Item(f"SKU-{number}", number, 1250 * number) for number in range(1, 4)],
    7500,
    "EUR",
)


def calibrate() -> dict[str, float]:
    """CPU and wall microseconds of one round trip of a fixed order through json and msgspec.

    `wall_per_cpu` is above 1.3 when other processes want the same core.
    """
    plain = msgspec.to_builtins(_SAMPLE)
    encoded = msgspec.json.encode(_SAMPLE)
    decode = msgspec.json.Decoder(_Order).decode
    cpu, wall = [], []
    for _ in range(_ROUNDS):
        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in range(_LOOPS):
            json.loads(json.dumps(plain))
            msgspec.json.encode(decode(encoded))
        cpu.append((time.process_time() - cpu_began) / _LOOPS * 1e6)
        wall.append((time.perf_counter() - began) / _LOOPS * 1e6)
    return {
        "calibration_us": round(statistics.median(cpu), 2),
        "wall_per_cpu": round(statistics.median(wall) / statistics.median(cpu), 2),
    }


def busy_s() -> float:
    """CPU seconds that everything on this machine has used, all cores, since its start."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # guest time is contained in user time
    return float(
        sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    )


def describe() -> dict[str, Any]:
    """Machine, versions, load average and calibration, as they are now."""
    return {
        "machine": f"{os.cpu_count()} cores {platform.machine()}, {_model()}, {platform.system()}"
        f" {platform.release()}, Python {sys.version.split()[0]}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
        **calibrate(),
    }


def warnings_before(look_s: float = 2.0) -> list[str]:
    """Why a measurement that begins now would be worth little; empty on a quiet machine."""
    began, before = time.monotonic(), busy_s()
    time.sleep(look_s)
    share = (busy_s() - before) / (time.monotonic() - began) / (os.cpu_count() or 1)
    found = []
    if share > OTHER_LOAD_MAX:
        found.append(f"others used {share:.0%} of the machine before the start")
    ratio = calibrate()["wall_per_cpu"]
    if ratio > WALL_PER_CPU_MAX:
        found.append(f"the calibration took {ratio:g} times its CPU time: cores are oversubscribed")
    return found


def other_load(busy: float, ours_s: float, wall_s: float) -> float:
    """Share of all cores that others used in a window in which we used `ours_s` of `busy`."""
    return max(0.0, (busy - ours_s) / wall_s / (os.cpu_count() or 1))


def refuse_or_warn(found: Sequence[str], *, force: bool) -> None:
    """Say loudly what is wrong; end with exit code 3 unless `force`."""
    if not found:
        return
    for line in found:
        print(f"WARNING: {line}", file=sys.stderr)
    if not force:
        print("refused: the result would be worth little; --force measures all the same",
              file=sys.stderr)  # fmt: skip
        sys.exit(3)


def checked(*, force: bool) -> dict[str, Any]:
    """What a result says of its machine; refuses one that others use, unless `force`."""
    warnings = warnings_before()
    refuse_or_warn(warnings, force=force)
    return {"warnings": warnings, **describe()}


def _model() -> str:
    about = Path("/proc/cpuinfo")
    for line in about.read_text().splitlines() if about.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
