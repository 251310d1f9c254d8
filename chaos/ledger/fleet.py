"""Workers of one subject as processes: started, watched and started again.

Guarantees: a worker that should run is started again `RESTART_S` after its end, whatever ended it;
every end is recorded; no process outlives the harness (chaos.lab.process).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import psutil

from chaos.lab.process import spawn, tail, terminate

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from chaos.ledger.subject import Launch, Subject

RESTART_S = 0.2
POLL_S = 0.02


class Exit(NamedTuple):
    """One end of one process."""

    worker: str
    pid: int
    code: int
    at_s: float
    wanted: bool


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    launch: Launch
    recorded: bool = False


class Fleet:
    """Processes of one subject. `on_death` runs after each unexpected end, before the restart."""

    def __init__(
        self,
        subject: Subject,
        directory: Path,
        on_death: Callable[[Launch], None] | None = None,
    ) -> None:
        self._subject, self._directory, self._on_death = subject, directory, on_death
        self._running: dict[str, _Running] = {}
        self._incarnations: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        self._ended = False
        self.exits: list[Exit] = []
        self.failure: Exception | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(
            target=self._supervise, name=f"fleet-{subject.name}", daemon=True
        )
        self._thread.start()

    @property
    def workers(self) -> tuple[str, ...]:
        """Workers that should be running."""
        return tuple(sorted(self._wanted))

    def start(self, worker: str, timeout_s: float = 10.0) -> int:
        """Start `worker` and keep it running; returns its first pid."""
        with self._changed:
            self._wanted.add(worker)
            self._changed.notify_all()
            found = self._changed.wait_for(lambda: self._alive(worker), timeout_s)
        self._check()
        if not found:
            raise TimeoutError(f"{worker} was not spawned within {timeout_s} s")
        return self.pid(worker)

    def stop(self, worker: str, grace_s: float) -> Exit:
        """SIGTERM and wait; SIGKILL after `grace_s`. Returns the end, code -9 if it was killed."""
        with self._changed:
            self._wanted.discard(worker)
            running = self._running[worker]
        terminate(running.process, signal.SIGTERM, grace_s)
        return self._record(worker, running)

    def signal(self, worker: str, number: signal.Signals) -> int:
        """Send a signal to the worker's process; returns the pid it went to."""
        process = self._running[worker].process
        process.send_signal(number)
        return process.pid

    def pid(self, worker: str) -> int:
        """Process id of the worker's newest process."""
        return self._running[worker].process.pid

    def client_id(self, worker: str) -> str:
        """Kafka client id of the worker's newest process."""
        return self._running[worker].launch.client_id

    def suspended(self, worker: str) -> bool:
        """Whether the worker's process is stopped by a signal."""
        return bool(psutil.Process(self.pid(worker)).status() == psutil.STATUS_STOPPED)

    def wait_restarted(self, worker: str, old_pid: int, timeout_s: float) -> int | None:
        """Pid of the process that followed `old_pid`, None when there is none in time."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._alive(worker) and self.pid(worker) != old_pid, timeout_s
            ):
                return None
        return self.pid(worker)

    def exit_of(self, pid: int) -> Exit | None:
        """How process `pid` ended, None while it runs."""
        return next((end for end in self.exits if end.pid == pid), None)

    def log_tail(self) -> str:
        """The last lines every worker wrote."""
        names = sorted(self._incarnations)
        return "\n".join(f"{n}: {tail(self._directory / f'{n}.log', 5)}" for n in names)

    def close(self) -> None:
        """Kill everything and reap it."""
        with self._changed:
            self._ended = True
            self._wanted.clear()
            self._changed.notify_all()
        self._thread.join(30)

    def _alive(self, worker: str) -> bool:
        running = self._running.get(worker)
        return running is not None and running.process.poll() is None

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _supervise(self) -> None:
        try:
            while not self._ended:
                self._turn()
                with self._changed:
                    self._changed.wait(POLL_S)
        except Exception as error:
            # Raised again in start(); a fleet without its supervisor proves nothing.
            self.failure = error
        finally:
            for worker, running in self._running.items():
                running.process.kill()
                running.process.wait()
                self._record(worker, running)

    def _turn(self) -> None:
        for worker in self.workers:
            running = self._running.get(worker)
            if running is not None and running.process.poll() is None:
                continue
            if running is not None and not running.recorded:
                self._record(worker, running)
                if self._on_death is not None:
                    self._on_death(running.launch)
            if running is None or monotonic() - self._last_end(running) >= RESTART_S:
                self._spawn(worker)

    def _last_end(self, running: _Running) -> float:
        end = self.exit_of(running.process.pid)
        return end.at_s if end else 0.0

    def _record(self, worker: str, running: _Running) -> Exit:
        with self._changed:
            if not running.recorded:
                running.recorded = True
                self.exits.append(
                    Exit(
                        worker,
                        running.process.pid,
                        int(running.process.returncode or 0),
                        monotonic(),
                        worker in self._wanted,
                    )
                )
            end = self.exit_of(running.process.pid)
        assert end is not None
        return end

    def _spawn(self, worker: str) -> None:
        number = self._incarnations.get(worker, 0) + 1
        self._incarnations[worker] = number
        launch = self._subject.launch(worker, number)
        process = spawn(
            launch.command,
            log=self._directory / f"{worker}.log",
            env=launch.environment,
            cwd=self._directory,
        )
        with self._changed:
            if worker not in self._wanted or self._ended:
                process.kill()
                process.wait()
                return
            self._running[worker] = _Running(process, launch)
            self._changed.notify_all()
