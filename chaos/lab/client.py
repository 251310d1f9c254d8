"""Driving a lab from Python: what `symphony up`, the demo, the nemesis and tests use.

Synchronous; in a coroutine use `asyncio.to_thread`. Every method raises LabError with what to do
when no lab runs or the supervisor refuses.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from chaos.lab.plan import LabFiles, Plan
from chaos.lab.process import LabError, spawn, sweep, tail

if TYPE_CHECKING:
    from chaos.lab.parts import StopMode

Row = dict[str, Any]
CALL_S = 180.0
LOOK_S = 0.1
DOWN_S = 90.0


class Lab:
    """A handle on the lab in `lab_dir`; creating one starts nothing."""

    def __init__(self, lab_dir: Path) -> None:
        self.files = LabFiles(lab_dir)
        self._started: subprocess.Popen[bytes] | None = None

    @classmethod
    def up(
        cls,
        plan: Plan,
        *,
        detach: bool = True,
        report: Callable[[str], None] = lambda _: None,
    ) -> Lab:
        """Start the lab of `plan` and return when everything is ready.

        With `detach` it outlives this process, otherwise it dies with it. `report` gets one line
        per part. Raises LabError with the reason and the last log lines when it fails.
        """
        lab = cls(plan.lab_dir)
        if lab.running():
            raise LabError(
                f"a lab already runs in {lab.files.root}: see `symphony status`, end it with"
                " `symphony down`, or use another --lab-dir"
            )
        plan.save()
        lab.files.failure.unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-m", "chaos.lab.supervisor", str(lab.files.root)]
        log = lab.files.supervisor_log
        if detach:
            with log.open("ab") as output:
                lab._started = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=plan.cwd,
                    start_new_session=True,
                )
        else:
            lab._started = spawn(argv, log=log, cwd=plan.cwd)
        lab._wait_ready(plan.ready_timeout_s + 60, report)
        return lab

    def _wait_ready(self, timeout_s: float, report: Callable[[str], None]) -> None:
        assert self._started is not None
        started = time.monotonic()
        told: dict[str, str] = {}
        while True:
            status = self._status_if_running()
            for row in status["processes"] if status else ():
                if row["state"] != told.get(row["name"]) and row["state"] != "waiting":
                    told[row["name"]] = row["state"]
                    seconds = time.monotonic() - started
                    report(f"{seconds:5.1f} s  {row['name']} {row['state']}")
            if status and status["state"] == "ready":
                return
            if self._started.poll() is not None:
                raise LabError(self._why_failed())
            if time.monotonic() - started > timeout_s:
                raise LabError(f"the lab is not ready after {timeout_s:g} s: `symphony status`")
            time.sleep(LOOK_S)

    def _status_if_running(self) -> dict[str, Any] | None:
        try:
            return self.status()
        except LabError:
            return None

    def _why_failed(self) -> str:
        if self.files.failure.exists():
            return self.files.failure.read_text()
        return f"the supervisor ended:\n{tail(self.files.supervisor_log)}"

    def call(self, name: str, /, *, timeout_s: float = CALL_S, **arguments: Any) -> Any:
        """One call of the supervisor; see chaos.lab.calls for names and arguments."""
        request = json.dumps({"call": name, "arguments": arguments}).encode() + b"\n"
        with self.files.connect(timeout_s) as connection:
            try:
                connection.sendall(request)
                with connection.makefile("rb") as answers:
                    line = answers.readline()
            except TimeoutError:
                raise LabError(f"{name} took longer than {timeout_s:g} s") from None
            except OSError as error:
                raise LabError(f"the supervisor went away during {name}: {error}") from None
        if not line:
            raise LabError(f"the supervisor went away during {name}")
        answer = json.loads(line)
        if "error" in answer:
            raise LabError(answer["error"])
        return answer["result"]

    def running(self) -> bool:
        """Whether a supervisor answers."""
        return self._status_if_running() is not None

    def status(self, *, delivery: bool = False) -> dict[str, Any]:
        """The document that `symphony status --json` prints."""
        status: dict[str, Any] = self.call("status", delivery=delivery)
        return status

    def process(self, name: str) -> Row:
        """The row of one process."""
        for row in self.status()["processes"]:
            if row["name"] == name:
                found: Row = row
                return found
        raise LabError(f"there is no {name!r} in this lab")

    def kill(self, name: str, signal_name: str = "KILL") -> int:
        """Send a signal; the pid that it went to. The supervisor starts what dies of it anew."""
        return int(self.call("kill", name=name, signal_name=signal_name)["pid"])

    def pause(self, name: str) -> int:
        """Freeze a process (SIGSTOP)."""
        return self.kill(name, "STOP")

    def resume(self, name: str) -> int:
        """Let a frozen process go on (SIGCONT)."""
        return self.kill(name, "CONT")

    def stop(self, name: str, *, mode: StopMode = "fast", grace_s: float | None = None) -> Row:
        """End a process and keep it ended."""
        row: Row = self.call("stop", name=name, mode=mode, grace_s=grace_s)
        return row

    def start(
        self, name: str, *, environment: Mapping[str, str] | None = None, wait: bool = True
    ) -> Row:
        """Start a stopped process; a worker gets `environment` on top, for this start only."""
        row: Row = self.call("start", name=name, environment=environment, wait=wait)
        return row

    def restart(
        self,
        name: str,
        *,
        mode: StopMode = "fast",
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> Row:
        """Stop and start a process."""
        row: Row = self.call("restart", name=name, mode=mode, environment=environment, wait=wait)
        return row

    def scale(self, role: str, count: int, *, wait: bool = True) -> list[Row]:
        """Have `count` workers of a role."""
        rows: list[Row] = self.call("scale", role=role, count=count, wait=wait)
        return rows

    def wait_restarted(self, name: str, old_pid: int, timeout_s: float) -> Row:
        """The row of the ready process that followed `old_pid`."""
        deadline = time.monotonic() + timeout_s
        while True:
            row = self.process(name)
            if row["state"] == "ready" and row["pid"] not in (None, old_pid):
                return row
            if time.monotonic() > deadline:
                raise LabError(f"{name} is {row['state']} {timeout_s:g} s after its end")
            time.sleep(LOOK_S)

    def down(self) -> bool:
        """End the lab and wait until it is gone; False when none ran (leftovers are ended)."""
        try:
            pid = int(self.call("down")["pid"])
        except LabError:
            if self.running():
                raise
            return bool(sweep(self.files.run))
        deadline = time.monotonic() + DOWN_S
        while _alive(pid):
            if self._started is not None:
                self._started.poll()
            if time.monotonic() > deadline:
                raise LabError(f"the supervisor (pid {pid}) has not ended after {DOWN_S:g} s")
            time.sleep(LOOK_S)
        return True


def _alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
