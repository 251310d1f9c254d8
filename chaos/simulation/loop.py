"""An event loop on virtual time: a seed decides which process runs next, time jumps when idle.

Handles belong to a `Process` by their context. Between two awaits of one process any other may
run, so every await is a place where a process can be overtaken, frozen or killed. Within a process
the order is asyncio's own. A killed process never runs again; its tasks are kept until `close`, so
that no garbage collection runs their `finally` blocks in the middle of the story.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from contextlib import suppress
from contextvars import Context, copy_context
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from chaos.simulation.process import KERNEL, Process, WorkerEnded, current_process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
_AbstractLoop: Any = asyncio.AbstractEventLoop
"""Untyped, because most of what it declares (sockets, signals) has no place in a simulation."""

STEPS_MAX = 3_000_000
"""Callbacks of one run at most: more means that something goes round in circles."""


class Livelock(Exception):
    """The run does not end: something goes round in circles without time passing."""


def _ignore(_: Process) -> None:
    """Nobody strikes."""


class VirtualLoop(_AbstractLoop):
    """Runs one simulation; `time()` is virtual seconds from 0.

    `strike` is called with the running process after `strike_in` more callbacks outside the kernel.
    """

    def __init__(self, seed: int) -> None:
        self.kernel = Process("kernel")
        self.problems: list[str] = []
        self.steps = 0
        self.strike_in = 1 << 60
        self.strike: Callable[[Process], None] = _ignore
        self._now_s = 0.0
        self._draw = Random(seed).random
        self._runnable: list[Process] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle | None, Any]] = []
        self._serial = count()
        self._processes = [self.kernel]

    # What asyncio asks of a loop

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def get_debug(self) -> bool:
        """Never: debugging would cost more than the run."""
        return False

    def is_running(self) -> bool:
        """Whether callbacks of this loop are being run."""
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        """Never, as far as tasks are concerned."""
        return False

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[Any]:
        """Start a task in the process of `context` (default: the running one)."""
        context = copy_context() if context is None else context
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        context.get(current_process, KERNEL).tasks.append(task)
        return task

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback behind those of its process."""
        context = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        self._make_ready(self._owner(context), handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Run a callback after `delay` virtual seconds."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a virtual time."""
        context = copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._serial), handle, self._owner(context)))
        return handle

    def pause(self, delay: float) -> asyncio.Future[None]:
        """Return a future that is done after `delay`: asyncio.sleep at half its cost."""
        future: asyncio.Future[None] = asyncio.Future(loop=self)
        heapq.heappush(self._timers, (self._now_s + delay, next(self._serial), None, future))
        return future

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer stays in the heap until its time."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what went wrong in a callback; the run then counts as failed."""
        if not isinstance(context.get("exception"), WorkerEnded):
            self.problems.append(f"{context.get('message')}: {context.get('exception')!r}")

    # Processes

    def process(self, name: str) -> Process:
        """Return a new process."""
        made = Process(name)
        self._processes.append(made)
        return made

    def spawn(self, process: Process, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task in `process`."""
        context = copy_context()
        context.run(current_process.set, process)
        return self.create_task(coro, context=context)

    def later(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> None:
        """Run a callback of the kernel after `delay_s`: what is under way outlives its sender."""
        context = copy_context()
        context.run(current_process.set, self.kernel)
        self.call_later(delay_s, callback, *args, context=context)

    def kill(self, process: Process) -> None:
        """End a process here and now: none of its tasks is ever resumed."""
        process.alive = False
        process.ready.clear()
        self._unqueue(process)

    def freeze(self, process: Process) -> None:
        """Suspend a process (SIGSTOP): its callbacks wait."""
        process.frozen = True
        self._unqueue(process)

    def thaw(self, process: Process) -> None:
        """Let a suspended process go on where it stood."""
        process.frozen = False
        if process.alive and process.ready and not process.queued:
            process.queued = True
            self._runnable.append(process)

    # The run

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main`, a task of the kernel, is done; return its result or raise its error."""
        events._set_running_loop(self)
        try:
            task = self.spawn(self.kernel, main)
            while not task.done():
                self._run_one()
            return task.result()
        finally:
            events._set_running_loop(None)

    def _run_one(self) -> None:
        runnable = self._runnable
        if not runnable:
            self._advance()
            return
        index = int(self._draw() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[index]
        handle = process.ready.popleft()
        if not process.ready:
            process.queued = False
            runnable[index] = runnable[-1]
            runnable.pop()
        if not handle._cancelled:
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Livelock(f"{STEPS_MAX} steps and still at {self._now_s:.1f} s")
            handle._run()
            if process is not self.kernel:
                self.strike_in -= 1
                if self.strike_in == 0:
                    self.strike(process)

    def _advance(self) -> None:
        """Let time pass until something is due."""
        timers = self._timers
        while timers and (handle := timers[0][2]) is not None and handle._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Livelock("nothing will ever happen again")
        self._now_s = now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= now_s:
            _, _, handle, owner = heapq.heappop(timers)
            if handle is None:
                if not owner.done():
                    owner.set_result(None)
            elif not handle._cancelled:
                self._make_ready(owner, handle)

    def close(self) -> None:
        """Throw every unfinished task away, whatever it wants to say about it."""
        events._set_running_loop(self)
        try:
            for process in self._processes:
                process.alive = False
                for task in process.tasks:
                    if task.done():
                        if not task.cancelled():
                            task.exception()
                    elif (coro := task.get_coro()) is not None:
                        with suppress(BaseException):
                            coro.close()
        finally:
            events._set_running_loop(None)

    def _owner(self, context: Context) -> Process:
        owner: Process = context.get(current_process, KERNEL)
        return self.kernel if owner is KERNEL else owner

    def _make_ready(self, process: Process, handle: asyncio.Handle) -> None:
        if not process.alive:
            return
        process.ready.append(handle)
        if not process.queued and not process.frozen:
            process.queued = True
            self._runnable.append(process)

    def _unqueue(self, process: Process) -> None:
        if process.queued:
            process.queued = False
            self._runnable.remove(process)
