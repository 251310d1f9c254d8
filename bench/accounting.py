"""Who used how much: CPU, memory and the workers' own counters of one running lab.

CPU counts a process with all its children, ended ones included: PostgreSQL's backends come and go,
and the postmaster inherits the times of those that ended. Nothing that serves an order is left out.
"""

from __future__ import annotations

import contextlib
import re
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import psutil

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Memory(NamedTuple):
    """MB of one process with its children; `pss` counts shared pages once."""

    rss: float
    pss: float


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, its children and all their ended children; 0 when it is gone."""
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in _family(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system
                total += getattr(times, "children_user", 0.0)
                total += getattr(times, "children_system", 0.0)
    return total


def memory_mb(pid: int) -> Memory:
    """Memory of a process with its children; PSS is 0 where the system does not tell it."""
    rss = pss = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in _family(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                rss += one.memory_info().rss
                with contextlib.suppress(psutil.AccessDenied):
                    pss += getattr(one.memory_full_info(), "pss", 0)
    return Memory(rss / 2**20, pss / 2**20)


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


class Processes:
    """The processes of a lab by name, the supervisor included."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self.pids: dict[str, int] = {
            row["name"]: row["pid"] for row in status["processes"] if row["pid"]
        }
        # its children are the others: count the supervisor alone
        self._supervisor = psutil.Process(status["supervisor"]["pid"])

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far by process."""
        used = {name: cpu_s(pid) for name, pid in self.pids.items()}
        times = self._supervisor.cpu_times()
        return {**used, "supervisor": times.user + times.system}

    def memory(self) -> dict[str, Memory]:
        """Memory now by process."""
        used = {name: memory_mb(pid) for name, pid in self.pids.items()}
        with contextlib.suppress(psutil.AccessDenied):
            info = self._supervisor.memory_full_info()
            used["supervisor"] = Memory(info.rss / 2**20, getattr(info, "pss", 0) / 2**20)
        return used

    def metrics(self) -> dict[str, Series]:
        """The series of every worker that answers on its health port, by process name."""
        found = {}
        for name, pid in self.pids.items():
            port = health_port(pid)
            if port:
                with contextlib.suppress(OSError):
                    found[name] = scrape(port)
        return found


def health_port(pid: int) -> int:
    """Where a worker's process answers on its health; 0 for another process."""
    try:
        return int(psutil.Process(pid).environ().get("SYMPHONY_HEALTH_PORT", "0"))
    except (psutil.Error, OSError):
        return 0


def scrape(port: int) -> Series:
    """Read one /metrics page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    series: Series = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match is not None:
            name, labels, value = match.groups()
            series[name, tuple(_LABEL.findall(labels or ""))] = float(value)
    return series


def grown(before: Mapping[str, Series], after: Mapping[str, Series]) -> dict[str, Series]:
    """What was added to every series of every process between two looks."""
    return {
        name: {key: value - before.get(name, {}).get(key, 0.0) for key, value in series.items()}
        for name, series in after.items()
    }


def records_per_step(grew: Mapping[str, Series]) -> dict[str, dict[str, float]]:
    """Steps and average records per step by consumer (and rounds and rows of the relay)."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for series in grew.values():
        for (name, labels), value in series.items():
            for family, consumer in (
                ("symphony_delivery_batch_records", dict(labels).get("consumer", "")),
                ("symphony_relay_batch_rows", "relay"),
                ("symphony_api_batch_orders", "web"),
            ):
                if name == f"{family}_count":
                    sums[consumer][0] += value
                elif name == f"{family}_sum":
                    sums[consumer][1] += value
    return {
        consumer: {"steps": steps, "records_per_step": round(records / steps, 1)}
        for consumer, (steps, records) in sums.items()
        if steps
    }


def phase_ms(grew: Mapping[str, Series]) -> dict[str, dict[str, float]]:
    """Average wall milliseconds of one step by consumer and phase."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for series in grew.values():
        for (name, labels), value in series.items():
            said = dict(labels)
            key = (said.get("consumer", ""), said.get("phase", ""))
            if name == "symphony_delivery_step_seconds_count":
                sums[key][0] += value
            elif name == "symphony_delivery_step_seconds_sum":
                sums[key][1] += value
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (consumer, phase), (count, seconds) in sums.items():
        if count:
            found[consumer][phase] = round(seconds / count * 1e3, 2)
    return dict(found)


def histogram_quantile(grew: Mapping[str, Series], family: str, share: float) -> float | None:
    """A quantile of a histogram over all processes, interpolated within its bucket."""
    buckets: dict[float, float] = defaultdict(float)
    for series in grew.values():
        for (name, labels), value in series.items():
            if name == f"{family}_bucket":
                buckets[float(dict(labels)["le"])] += value
    if not buckets or max(buckets.values()) <= 0:
        return None
    wanted = max(buckets.values()) * share
    low = below = 0.0
    for high in sorted(buckets):
        if buckets[high] >= wanted:
            if high == float("inf"):
                return low
            inside = buckets[high] - below
            return low + (high - low) * ((wanted - below) / inside if inside else 1.0)
        low, below = high, buckets[high]
    return None
