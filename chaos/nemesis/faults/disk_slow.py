"""Fault `disk_slow`: PostgreSQL's writes reach the disk at a crawl."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.world import World

BLKIO = Path("/sys/fs/cgroup/blkio")
LIMIT = "blkio.throttle.write_bps_device"
PROBE_S = 2.0
PATIENCE = 3
"""After so many times its time at the limit the probe need not end: the disk is slow."""
WRITER = """
import os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
with open(sys.argv[2], "wb") as file:
    os.unlink(sys.argv[2])
    file.write(os.urandom(int(sys.argv[3])))
    file.flush()
    os.fsync(file.fileno())
"""


class DiskSlow(Fault):
    """A control group throttles what PostgreSQL writes to its disk."""

    name = "disk_slow"
    aims = "postgres"
    needs = "blkio control groups (version 1), writable"
    for_s = 10.0
    recovers_from = "end"
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"bytes_per_s": 262_144})

    def targets(self, world: World) -> list[str]:
        return [one for one in world.parts() if one == "postgres"]

    def unavailable(self, world: World, target: str) -> str:
        if not (BLKIO / LIMIT).exists():
            return f"no blkio control groups (version 1) at {BLKIO}"
        if not os.access(BLKIO, os.W_OK):
            return f"{BLKIO} is not writable"
        if device_of(data_of(world)) is None:
            return f"{data_of(world)} lies on no block device"
        return ""

    def start(self, run: Run) -> None:
        group = BLKIO / f"nemesis-{run.action}"
        device = device_of(data_of(run.world))
        run.undo("cgroup", path=str(group))
        group.mkdir()
        (group / LIMIT).write_text(f"{device} {int(run.params['bytes_per_s'])}")
        run.notes["group"] = group
        processes = [one.pid for one in run.world.tree("postgres")]
        for pid in processes:
            (group / "cgroup.procs").write_text(str(pid))
        run.notes["processes"] = len(processes)

    def prove(self, run: Run) -> str:
        group: Path = run.notes["group"]
        limit = int(run.params["bytes_per_s"])
        inside = set((group / "cgroup.procs").read_text().split())
        if str(run.world.pid("postgres")) not in inside:
            raise Unproved("PostgreSQL is not in the control group")
        return f"{len(inside)} processes throttled, {self._written(run, group, limit)}"

    def _written(self, run: Run, group: Path, limit: int) -> str:
        """How fast a file is written and synced beside PostgreSQL, which shares the limit."""
        size = int(limit * PROBE_S)
        file = data_of(run.world).parent / f"nemesis-probe-{run.action}"
        program = [sys.executable, "-c", WRITER, str(group / "cgroup.procs"), str(file), str(size)]
        began = time.monotonic()
        writer = run.notes["writer"] = subprocess.Popen(program)
        try:
            code = writer.wait(PROBE_S * PATIENCE)
        except subprocess.TimeoutExpired:
            return f"{size} bytes were not synced within {PROBE_S * PATIENCE:g} s"
        rate = size / (time.monotonic() - began)
        if code:
            raise Unproved("the probe could not write")
        if rate > 1.5 * limit:
            raise Unproved(f"a file was written and synced at {rate:.0f} bytes/s")
        return f"a file was synced at {rate:.0f} bytes/s"

    def halt(self, run: Run) -> None:
        """A writer in the middle of a throttled sync dies when the throttle is gone: no wait."""
        if "writer" in run.notes:
            run.notes["writer"].kill()

    def after(self, run: Run) -> str:
        """The probe has ended, too. Raises Unproved when it has not."""
        if "writer" in run.notes:
            seen("the probe ends", lambda: run.notes["writer"].poll() is not None)
        return ""


def data_of(world: World) -> Path:
    """Where PostgreSQL's data really are."""
    return (world.plan.files.postgres / "data").resolve()


def device_of(path: Path) -> str | None:
    """MAJOR:MINOR of the whole disk under `path`, None when there is none."""
    number = path.stat().st_dev
    entry = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not entry.exists():
        return None
    if (entry / "partition").exists():
        entry = entry.resolve().parent
    return (entry / "dev").read_text().strip()
