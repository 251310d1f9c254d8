"""Faults `clock` and `memory`: what the plug-in `chaos.nemesis.inside` does within a worker."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar

import psutil

from app.topics import (
    INVENTORY_RESULT,
    ORDER_CREATED,
    ORDER_STATUS_CHANGED,
    PAYMENT_RESULT,
    SHIPPING_RESULT,
)
from chaos import records
from chaos.lab.process import LabError
from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.inside import file_of
from chaos.nemesis.world import World, role_of
from chaos.records import Record

PLUGIN = "chaos.nemesis.inside"
CLOSE_S = 5.0
WRITTEN_S = 30.0
LAST = 50
"""So many of each partition's newest records are looked at."""
WRITES: Mapping[str, str] = MappingProxyType(
    {
        "web": ORDER_CREATED.name,
        "orchestrator": ORDER_STATUS_CHANGED.name,
        "payment": PAYMENT_RESULT.name,
        "inventory": INVENTORY_RESULT.name,
        "shipping": SHIPPING_RESULT.name,
    }
)
"""Where the records of a role stand whose `ce_time` is by its own clock."""
HOG_MB_MAX = 1024
MEGABYTE = 1024 * 1024


class InsideFault(Fault):
    """A worker gets the plug-in, by a restart if it has none; a file tells it what to do."""

    aims = "a worker"
    for_s = 15.0
    lease_extra_s = 120.0
    recovers_from = "none"

    def targets(self, world: World) -> list[str]:
        return world.workers()

    def start(self, run: Run) -> None:
        world, file = run.world, file_of(run.world.own_dir(), run.target)
        if "inside" not in world.delivery(run.target):
            plugins = world.plan.environment.get("SYMPHONY_PLUGINS", "")
            both = ",".join(filter(None, (plugins, PLUGIN)))
            world.lab.restart(run.target, environment={"SYMPHONY_PLUGINS": both})
        run.notes["rss"] = psutil.Process(world.pid(run.target)).memory_info().rss
        run.undo("remove", path=str(file))
        order = {**self.order(run), "until_s": run.lease.expires_at_s}
        scratch = file.with_suffix(".new")
        scratch.write_text(json.dumps(order))
        scratch.rename(file)

    @abstractmethod
    def order(self, run: Run) -> Mapping[str, Any]:
        """What the plug-in is told."""

    @staticmethod
    def says(run: Run) -> dict[str, Any]:
        """What the worker says of itself, empty while it does not answer."""
        document: dict[str, Any] = run.world.delivery(run.target).get("inside") or {}
        return document


class Clock(InsideFault):
    """A worker's clock is wrong by `skew_s`, by default an hour ahead or behind."""

    name = "clock"
    needs = "orders that flow"
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"skew_s": 0.0})

    def unavailable(self, world: World, target: str) -> str:
        role = role_of(target)
        return "" if role in WRITES else f"{role} writes no instant under load by its own clock"

    def order(self, run: Run) -> Mapping[str, Any]:
        skew_s = float(run.params["skew_s"]) or run.random.choice((-3600.0, 3600.0))
        run.notes |= {"skew_s": skew_s, "since_ms": int(time.time() * 1000)}
        return {"skew_s": skew_s}

    def prove(self, run: Run) -> str:
        topic, skew_s = WRITES[role_of(run.target)], run.notes["skew_s"]
        off_s = seen(
            f"a record on {topic} whose ce_time is off by {skew_s:g} s",
            lambda: self._written(run, topic),
            WRITTEN_S,
        )
        return f"a record on {topic} is off by {off_s:.1f} s of the broker's time"

    @staticmethod
    def _written(run: Run, topic: str) -> float | None:
        skew_s, since_ms = run.notes["skew_s"], run.notes["since_ms"]
        try:
            newest = list(records.read(run.world.bootstrap, [topic], last=LAST))
        except LabError:  # another fault's doing
            return None
        return skewed(newest, skew_s, since_ms)

    def after(self, run: Run) -> str:
        seen(f"the clock of {run.target} is right again", lambda: self._right(run), 20)
        return "the clock is right again"

    def _right(self, run: Run) -> bool:
        said = self.says(run).get("clock")
        if said is None:
            return True
        off_s = (datetime.fromisoformat(said) - datetime.now(UTC)).total_seconds()
        return bool(abs(off_s) < CLOSE_S)


def skewed(newest: Iterable[Record], skew_s: float, since_ms: int) -> float | None:
    """How far off the broker's time (seconds) the `ce_time` of a record is that was appended since
    `since_ms` (Unix) and is off by about `skew_s`; None when there is none.
    """
    for one in newest:
        try:
            written = datetime.fromisoformat((dict(one.headers).get("ce_time") or b"").decode())
        except ValueError:
            continue
        off_s = written.timestamp() - one.timestamp / 1000
        if one.timestamp >= since_ms and abs(off_s - skew_s) < min(CLOSE_S, abs(skew_s) / 2):
            return off_s
    return None


class Memory(InsideFault):
    """A worker takes `hog_mb` of memory and keeps it."""

    name = "memory"
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"hog_mb": 256})

    def unavailable(self, world: World, target: str) -> str:
        free_mb = psutil.virtual_memory().available / MEGABYTE
        wanted = 2 * int(self.params["hog_mb"])
        return "" if free_mb > wanted else f"only {free_mb:.0f} MB of memory are free"

    def order(self, run: Run) -> Mapping[str, Any]:
        hog_mb = int(run.params["hog_mb"])
        if not 0 < hog_mb <= HOG_MB_MAX:
            raise Unproved(f"hog_mb must be between 1 and {HOG_MB_MAX}")
        return {"hog_mb": hog_mb}

    def prove(self, run: Run) -> str:
        wanted = 0.8 * int(run.params["hog_mb"]) * MEGABYTE
        process = psutil.Process(run.world.pid(run.target))
        before = run.notes["rss"]
        seen("its memory grows", lambda: process.memory_info().rss - before >= wanted, 20)
        return f"RSS of {run.target} {before >> 20} MB became {process.memory_info().rss >> 20} MB"
