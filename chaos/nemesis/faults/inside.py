"""Faults `clock` and `memory`: what the plug-in `chaos.nemesis.inside` does within a worker."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar

import psutil

from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.inside import file_of
from chaos.nemesis.world import World

PLUGIN = "chaos.nemesis.inside"
CLOSE_S = 5.0
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
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"skew_s": 0.0})

    def order(self, run: Run) -> Mapping[str, Any]:
        skew_s = float(run.params["skew_s"]) or run.random.choice((-3600.0, 3600.0))
        run.notes["skew_s"] = skew_s
        return {"skew_s": skew_s}

    def prove(self, run: Run) -> str:
        wanted = run.notes["skew_s"]
        off_s = seen(f"{run.target} off by {wanted:g} s", lambda: self._off(run, wanted), 20)
        return f"the clock of {run.target} is off by {off_s:.1f} s"

    def _off(self, run: Run, wanted_s: float) -> float | None:
        said = self.says(run).get("clock")
        if said is None:
            return None
        off_s = (datetime.fromisoformat(said) - datetime.now(UTC)).total_seconds()
        return off_s if abs(off_s - wanted_s) < CLOSE_S else None

    def after(self, run: Run) -> str:
        seen(f"the clock of {run.target} is right again", lambda: self._right(run), 20)
        return "the clock is right again"

    def _right(self, run: Run) -> bool:
        said = self.says(run)
        return not said or self._off(run, 0.0) is not None


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
