"""How faults are undone: steps that are data, so that whoever is left can carry them out.

Each step may be repeated and finds nothing to do when its fault has ended otherwise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import psycopg2

from chaos.lab.client import Lab
from chaos.lab.process import LabError, ProcessRecord
from chaos.nemesis import http
from chaos.nemesis.lease import Step

PATIENCE_S = 20.0
LOOK_S = 0.2
UMOUNT = shutil.which("umount") or "umount"


def undo(lab: Lab, steps: Sequence[Step]) -> list[str]:
    """Carry out `steps`, the last one first, each until it succeeds or 20 s are over.

    Returns what could not be undone.
    """
    return [trouble for step in reversed(steps) if (trouble := _patiently(lab, step))]


def _patiently(lab: Lab, step: Step) -> str:
    arguments = dict(step)
    act = STEPS[arguments.pop("step")]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            act(lab, **arguments)
        except (LabError, OSError, psycopg2.Error, subprocess.SubprocessError) as error:
            why = " ".join(str(error).split())
        else:
            return ""
        if not lab.running() or time.monotonic() > deadline:
            return f"{step}: {why}"
        time.sleep(LOOK_S)


def _wake(lab: Lab, part: str, processes: Sequence[tuple[int, float]]) -> None:
    """SIGCONT to exactly these processes; the supervisor is told through its own call."""
    alive = [pid for pid, at in processes if ProcessRecord(part, pid, at).alive()]
    if alive and lab.running():
        with contextlib.suppress(LabError):  # it has ended by itself
            lab.resume(part)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _start(lab: Lab, part: str) -> None:
    """Start a part that was stopped; one that runs is left alone."""
    if lab.process(part)["state"] == "stopped":
        lab.start(part, wait=False)


def _stop(lab: Lab, part: str) -> None:
    lab.stop(part)


def _restart(lab: Lab, part: str) -> None:
    """A new process without what the old one was started with."""
    lab.restart(part, wait=False)


def _scale(lab: Lab, role: str, count: int) -> None:
    lab.scale(role, count, wait=False)


def _gateway(lab: Lab, url: str, behaviour: Mapping[str, Any]) -> None:
    """The gateway's usual behaviour; a new process of it has that anyhow."""
    http.ask("PUT", f"{url}/v1/mode", dict(behaviour))


def _toxic(lab: Lab, url: str, proxy: str, name: str) -> None:
    try:
        http.ask("DELETE", f"{url}/proxies/{proxy}/toxics/{name}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise


def _enable(lab: Lab, url: str, proxy: str) -> None:
    http.ask("POST", f"{url}/proxies/{proxy}", {"enabled": True})


def _sessions(lab: Lab, dsn: str, application: str) -> None:
    """End every database session of this name."""
    with closing(psycopg2.connect(dsn, connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = %s",
                (application,),
            )


def _remove(lab: Lab, path: str) -> None:
    """Remove a file of the nemesis; nothing outside the lab is touched."""
    found = Path(path)
    if not found.is_relative_to(lab.files.root):
        raise LabError(f"{path} is not in the lab")
    found.unlink(missing_ok=True)


def _unmount(lab: Lab, path: str, kept: str) -> None:
    """Take a small file system away and put what it had covered back."""
    if os.path.ismount(path):
        subprocess.run([UMOUNT, "--lazy", path], check=True, capture_output=True, timeout=20)
    if Path(kept).exists():
        shutil.rmtree(path, ignore_errors=True)
        Path(kept).rename(path)


def _cgroup(lab: Lab, path: str) -> None:
    """Let every process out of a control group and remove it."""
    group = Path(path)
    if not group.exists():
        return
    for pid in (group / "cgroup.procs").read_text().split():
        if psutil.pid_exists(int(pid)):
            (group.parent / "cgroup.procs").write_text(pid)
    group.rmdir()


STEPS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {
        "wake": _wake,
        "start": _start,
        "stop": _stop,
        "restart": _restart,
        "scale": _scale,
        "gateway": _gateway,
        "toxic": _toxic,
        "enable": _enable,
        "sessions": _sessions,
        "remove": _remove,
        "unmount": _unmount,
        "cgroup": _cgroup,
    }
)
