"""Fault `disk_full`: the file system that holds a worker's tables has no byte left."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from app.roles import ROLES
from chaos.lab.process import LabError
from chaos.nemesis.faults.fault import PROOF_S, Fault, Run, Unproved, log_bytes, logged, seen
from chaos.nemesis.world import World, role_of

MOUNT, UMOUNT = shutil.which("mount") or "", shutil.which("umount") or ""
PIECE = 64 * 1024
MB = 1024 * 1024
MET_S = 5.0
ENOSPC = (os.strerror(errno.ENOSPC), "ENOSPC")


class DiskFull(Fault):
    """A worker's tables lie on a small file system of their own, and it fills up.

    It holds a copy of them and is twice their size and `spare_mb`: the worker opens them there
    and serves before it is filled, however long their changelog is. Proved when the worker met it.
    """

    name = "disk_full"
    aims = "a worker with tables"
    needs = "root on Linux, to mount a small file system; orders that flow"
    for_s = 10.0
    recovers_from = "end"
    lease_extra_s = 120.0
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"spare_mb": 16})

    def targets(self, world: World) -> list[str]:
        return [one for one in world.workers() if ROLES[role_of(one)].tables]

    def unavailable(self, world: World, target: str) -> str:
        return cannot_mount(world.own_dir())

    def start(self, run: Run) -> None:
        lab, target = run.world.lab, run.target
        directory = run.world.tables_dir(target)
        kept = directory.with_name(f"{directory.name}.kept")
        run.undo("start", part=target)
        run.undo("unmount", path=str(directory), kept=str(kept))
        run.undo("stop", part=target)
        lab.stop(target)
        directory.rename(kept)
        directory.mkdir()
        size_mb = int(run.params["spare_mb"]) + 2 * size_of(kept) // MB
        mount(directory, size_mb)
        shutil.copytree(kept, directory, dirs_exist_ok=True)
        lab.start(target)
        run.notes |= {"pid": run.world.pid(target), "size": log_bytes(run)}
        run.notes["filler"] = fill(directory, size_mb)

    def prove(self, run: Run) -> str:
        directory = run.world.tables_dir(run.target)
        probe_full(directory)
        wait_s = min(max(run.for_s, MET_S), PROOF_S)
        met = seen(f"{run.target} meets its full disk", lambda: self._met(run), wait_s)
        return f"{directory}: {run.notes['filler']} bytes full, {met}"

    @staticmethod
    def _met(run: Run) -> str:
        """How the worker itself met it since; empty while it has not."""
        if any(logged(run, run.notes["size"], word) for word in ENOSPC):
            return f"{run.target} says: {ENOSPC[0]}"
        row = run.world.lab.process(run.target)
        if row["pid"] != run.notes["pid"]:
            return f"{run.target} has ended: {row['last_exit']}"
        return ""

    def after(self, run: Run) -> str:
        directory = run.world.tables_dir(run.target)
        if os.path.ismount(directory):
            raise LabError(f"{directory} is still mounted")
        return f"{directory} is on the lab's own disk again"


def probe_full(directory: Path) -> None:
    """Return when not another byte can be written there. Raises Unproved."""
    try:
        (directory / "probe").write_bytes(b"x" * PIECE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return
        raise Unproved(str(error)) from None
    raise Unproved(f"{PIECE} bytes could be written to {directory}")


def size_of(directory: Path) -> int:
    """Bytes in the files below; they may vanish meanwhile."""
    found = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_size
    return found


def mount(directory: Path, size_mb: int) -> None:
    """Put a file system of `size_mb` on `directory`. Raises LabError."""
    command = [MOUNT, "-t", "tmpfs", "-o", f"size={size_mb}m", "nemesis", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise LabError(f"cannot mount a small file system: {done.stderr.strip()}")


def fill(directory: Path, size_mb: int) -> int:
    """Write until nothing more fits on the file system of `size_mb` there; how many bytes that is.

    Raises Unproved when it is not there any more: a lease that ended has unmounted it, and the
    disk below is not ours to fill.
    """
    written, filler = 0, directory / "filler"
    with filler.open("wb", buffering=0) as file:
        if os.fstat(file.fileno()).st_dev == directory.parent.stat().st_dev:
            filler.unlink()
            raise Unproved(f"{directory} is no file system of its own any more")
        for piece in (PIECE, 512, 1):
            with contextlib.suppress(OSError):
                while written <= size_mb * MB:
                    written += file.write(b"\0" * piece)
    return written


def cannot_mount(directory: Path) -> str:
    """Why no file system can be mounted here, by trying; empty when it can."""
    if sys.platform != "linux" or not (MOUNT and UMOUNT):
        return "mount and umount of Linux are needed"
    if os.geteuid() != 0:
        return "only root may mount a file system"
    directory.mkdir(parents=True, exist_ok=True)
    trial = Path(tempfile.mkdtemp(prefix="trial-", dir=directory))
    try:
        mount(trial, 1)
        subprocess.run([UMOUNT, str(trial)], check=True, capture_output=True, timeout=20)
    except LabError as error:
        return str(error)
    finally:
        trial.rmdir()
    return ""
