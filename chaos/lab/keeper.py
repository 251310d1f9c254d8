"""Keeping one part of the lab running: start, wait until ready, notice its end, start again.

Guarantees: a wanted part is started again after every end, at once when it had run for a while or
asks for it, and with growing pauses otherwise; `stop` returns only when no process of the part is
left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from chaos.lab.parts import Part, StopMode
from chaos.lab.process import LabError, ProcessRecord, tail

POLL_S = 0.05
READY_POLL_S = 0.1
STEADY_S = 10.0
FIRST_BACKOFF_S = 0.25
EARLY_ENDS_MAX = 3
EXIT_USAGE = 2
EXIT_AGAIN = 75
"""A worker that stopped in good order to be started again (app.delivery.exits.EXIT_REWIND)."""


class State(StrEnum):
    """What a part is doing, as `symphony status` prints it."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    BACKOFF = "backoff"


class Keeper:
    """Owns one part. `on_end(part, returncode)` is called after each end that was not clean.

    Whoever starts or stops it while others may do so, too, has its `turn` meanwhile: a part that is
    wanted again while it is being stopped never comes to rest.
    """

    def __init__(
        self,
        part: Part,
        *,
        run_dir: Path,
        backoff_max_s: float,
        on_end: Callable[[Part, int], None],
    ) -> None:
        self.part = part
        self.starts = 0
        self.last_exit = ""
        self.reason = ""
        self.paused = False
        self.turn = asyncio.Lock()
        self._run_dir, self._backoff_max_s, self._on_end = run_dir, backoff_max_s, on_end
        self._state = State.WAITING
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ready = asyncio.Event()
        self._short_lives = 0
        self._early_ends = 0
        self._was_ready = False
        self._fatal = ""

    @property
    def name(self) -> str:
        """The part's name, unique in the lab."""
        return self.part.name

    @property
    def state(self) -> State:
        """The present state; `paused` hides what the process did before."""
        return State.PAUSED if self.paused and self.part.pid is not None else self._state

    @property
    def restarts(self) -> int:
        """How often the part was started again."""
        return max(0, self.starts - 1)

    @property
    def wanted(self) -> bool:
        """Whether the part should run."""
        return self._wanted.is_set()

    def start(self) -> None:
        """Want the part to run; a pause before its next start ends now."""
        self._idle.clear()
        self._wanted.set()
        self._hurry.set()

    async def stop(self, grace_s: float, mode: StopMode = "fast") -> None:
        """End the part: in good order, by SIGKILL after `grace_s`; returns when it is gone."""
        self._wanted.clear()
        self._hurry.set()
        if self.part.pid is not None:
            self._state = State.STOPPING
            self._send(self.part.stop_signal(mode))
            self._send(signal.SIGCONT)
        try:
            await asyncio.wait_for(self._idle.wait(), grace_s)
        except TimeoutError:
            self._send(signal.SIGKILL)
            await self._idle.wait()
        self._state = State.STOPPED

    def send(self, number: signal.Signals) -> int:
        """Send a signal; returns the pid it went to. Raises LabError when nothing runs."""
        pid = self.part.pid
        if pid is None:
            raise LabError(f"{self.name} does not run now ({self.state})")
        os.kill(pid, number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.paused = number == signal.SIGSTOP
        return pid

    async def wait_ready(self) -> None:
        """Return when the part serves. Raises LabError when it never will by itself.

        That is: it cannot be started, refuses its settings, or ended several times before it was
        ready for the first time.
        """
        while not self._ready.is_set():
            if self._fatal:
                raise LabError(self._fatal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), POLL_S)

    async def run(self) -> None:
        """Do the keeping, until cancelled."""
        while True:
            if not self._wanted.is_set():
                self._idle.set()
                await self._wanted.wait()
            self._idle.clear()
            self._hurry.clear()
            if await self._launch():
                returncode = await self._watch()
                self._note_end(returncode)
            if self._wanted.is_set():
                await self._pause()

    async def _launch(self) -> bool:
        self._state = State.STARTING
        self.paused = False
        try:
            await self.part.launch()
        except LabError as error:
            self.last_exit = self.reason = str(error)
            self._short_lives += 1
            if not self._was_ready:
                self._fatal = str(error)
            return False
        self.starts += 1
        if (pid := self.part.pid) is not None:
            record = ProcessRecord.of(self.name, pid)
            if record is not None:
                record.write(self._run_dir)
        if not self._wanted.is_set():
            self._send(self.part.stop_signal("fast"))
        return True

    async def _watch(self) -> int:
        """Wait for the end of the process; meanwhile find out when it is ready."""
        started = time.monotonic()
        probe = asyncio.create_task(self._probe(), name=f"probe-{self.name}")
        try:
            while (returncode := self.part.returncode) is None:
                await asyncio.sleep(POLL_S)
        finally:
            probe.cancel()
            self._ready.clear()
        steady = returncode == EXIT_AGAIN or time.monotonic() - started >= STEADY_S
        self._short_lives = 0 if steady else self._short_lives + 1
        return returncode

    async def _probe(self) -> None:
        while True:
            readiness = await self.part.readiness()
            if readiness.ok:
                break
            self.reason = readiness.reason
            await asyncio.sleep(READY_POLL_S)
        if self._state is State.STARTING:
            self._state = State.READY
        self.reason = ""
        self._was_ready = True
        self._ready.set()

    def _note_end(self, returncode: int) -> None:
        (self._run_dir / f"{self.name}.json").unlink(missing_ok=True)
        self.last_exit = describe_exit(returncode)
        self.paused = False
        if returncode == EXIT_AGAIN:
            return
        if not self._was_ready and self._wanted.is_set():
            self._early_ends += 1
            if self._early_ends >= EARLY_ENDS_MAX or returncode == EXIT_USAGE:
                self._fatal = (
                    f"{self.name} {self.last_exit} before it was ready; the end of"
                    f" {self.part.log}:\n{tail(self.part.log)}"
                )
        if returncode:
            self._on_end(self.part, returncode)

    async def _pause(self) -> None:
        """Wait before the next start: not at all after a steady life, then longer and longer."""
        if self._short_lives == 0:
            return
        self._state = State.BACKOFF
        pause_s = min(self._backoff_max_s, FIRST_BACKOFF_S * 2 ** (self._short_lives - 1))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), pause_s)

    def _send(self, number: signal.Signals) -> None:
        if (pid := self.part.pid) is not None:
            os.kill(pid, number)


def describe_exit(returncode: int) -> str:
    """An exit status in words: `exited with 70`, `was ended by SIGKILL`."""
    if returncode >= 0:
        return f"exited with {returncode}"
    try:
        return f"was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was ended by signal {-returncode}"
